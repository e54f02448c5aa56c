"""
A campaign of kills: the real command line, killed at random moments and resumed.

A kill is SIGKILL after a while, at a request or right before a file is made or
put in place; a signal in the middle of a write; or SIGTERM, which must leave
nothing in flight.

`KILLS` says how many (40; `make test-kills` takes 500). The dice are seeded.
"""

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.null_server import NullServer, serve
from fake_llamacpp import FakeLlamaCpp, served
from grace.cli.main import EXIT_INCOMPLETE, invoke
from grace.engine.forecast import MOST_QUERIES_TOGETHER
from grace.engine.journal import read_journal
from grace.engine.plan import QueryKey, plan_responses, plan_scores
from grace.extraction.model_extractor import extraction_key, extraction_prompt
from grace.inference.toy import ToyClient
from grace.pipeline.asking import row_texts
from grace.pipeline.inputs import load_inputs
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from grace.settings import RunSettings
from grace.studies.prompts import Message, Prompt, PromptMode, build_prompt
from processes import Command, Forker

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "40"))
SEED = int(os.environ.get("KILLS_SEED", "17"))
CONCURRENCY = 3
MODEL = "smollm2-135m"
ASKED = RunSettings(limit=3, replicates=2)
FIELDS = {
    "Was/Wasn't": "wasn't",
    "Assessment": "good",
    "response_text": "Hm.",
    "Prior_A": 3,
    "Knowledge_A": "yes",
}

# Right before a file is made, or is put in its place.
PLACES = (
    ("open", ".run.json.part"),
    ("os.rename", ".run.json.part"),
    ("open", "run.lock"),
    ("os.mkdir", "journal"),
    ("open", "*-000?.jsonl"),
    ("open", ".*_raw_responses.csv.part"),
    ("os.rename", ".*_structured.csv.part"),
    ("os.rename", ".extraction_errors.jsonl.part"),
    ("open", ".*_probabilities.csv.part"),
    ("os.rename", ".*_scores.csv.part"),
    ("os.rename", ".*_summary.csv.part"),
    ("open", ".manifest.json.part"),
    ("os.rename", ".manifest.json.part"),
)


@dataclass
class Model:
    """
    A served model, and which query each of its requests belonged to.

    Attributes:
        flags: The command that runs on it.

        together: Queries that may be in one request.

        log: The requests, in order, each as what sets it apart.

        keys: From what sets a request apart to the query.

        on_request: Is called at each request.
    """

    flags: list[str]
    together: int
    log: list[Any] = field(default_factory=list)
    keys: dict[Any, QueryKey] = field(default_factory=dict)
    on_request: Callable[[], None] = lambda: None

    def note(self, what: Any) -> None:
        self.log.append(what)
        self.on_request()

    def asked(self, since: int) -> set[QueryKey]:
        return {self.keys[what] for what in self.log[since:] if what in self.keys}

    def settle(self) -> None:
        """Wait for requests of a killed client that the server has still to read."""
        before = -1
        while before != len(self.log):
            before = len(self.log)
            time.sleep(0.01)


@contextmanager
def llamacpp() -> Iterator[Model]:
    """All four experiments, and extraction by the model itself."""
    model = Model(["--extractor", f"rules+{MODEL}"], together=1)
    server = FakeLlamaCpp(extract=_extracted)

    def note(_number: int, payload: Mapping[str, Any]) -> None:
        scored_or_extracted = payload.get("n_probs") or "json_schema" in payload
        model.note(tuple(payload["prompt"]) if scored_or_extracted else payload["seed"])
        server.asked.clear()

    server.trouble = note
    with served(server) as url:
        model.flags += ["--endpoint", url]
        yield model


def _extracted(fields: Sequence[str], _prompt: str) -> str:
    return json.dumps({name: FIELDS.get(name) for name in fields})


async def keys_of_llamacpp(folders: Sequence[RunFolder]) -> dict[Any, QueryKey]:
    toy = ToyClient()
    records = read_journal(folders[0].journal).records
    keys: dict[Any, QueryKey] = {}
    for trials in load_inputs(ASKED):
        plan = plan_responses(
            trials, seed=ASKED.seed, replicates=ASKED.replicates, deterministic=False
        )
        keys |= {query.seed: query.key for one in plan.dialogues for query in one.queries}
        for row in row_texts(plan, records):
            message = Message("user", extraction_prompt(trials.study, row.responses))
            prompt = await toy.render(Prompt(messages=(message,)))
            keys[prompt.token_ids] = extraction_key(trials.study, MODEL, row.responses)
        for query in plan_scores(trials).queries:
            prompt = await toy.render(build_prompt([query.turn], [], PromptMode.CHAT))
            keys[prompt.token_ids] = query.key
    return keys


class _Null(NullServer):
    """A vLLM server that notes which prompts it scored."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.said = model

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        asked = json.loads(body) if path == "/v1/completions" else {}
        if "logprob_token_ids" in asked:
            for prompt in asked["prompt"]:
                # Behind the header of the answer are the tokens of the trie's node.
                begin, length = self.header
                headers = (at for at, token in enumerate(prompt) if token == begin)
                self.said.note(tuple(prompt[: max(headers, default=-length) + length]))
        return super().answer(path, body)

    @property
    def header(self) -> tuple[int, int]:
        """The first token of what begins an answer, and how many there are."""
        tokens = self._model.encode("<|im_start|>assistant\n")
        return tokens[0], len(tokens)

    def keys(self) -> dict[Any, QueryKey]:
        found = {}
        for trials in load_inputs(ASKED):
            for query in plan_scores(trials).queries:
                (message,) = build_prompt([query.turn], [], PromptMode.CHAT).messages
                text = self._model.chat([(message.role, message.content)])
                found[tuple(self._model.encode(text))] = query.key
        return found


@contextmanager
def vllm() -> Iterator[Model]:
    """Both experiments with answer sets, whose questions travel together."""
    model = Model(["--experiment", "exp2"], together=MOST_QUERIES_TOGETHER)
    server = _Null(model)
    address: list[str] = []
    ready = threading.Event()

    def announce(url: str) -> None:
        address.append(url)
        ready.set()

    async def main() -> None:
        task = asyncio.ensure_future(serve(server, announce=announce))
        ends.append((asyncio.get_running_loop(), task))
        await asyncio.wait([task])

    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(30)
    model.keys = server.keys()
    model.flags += ["--endpoint", address[0]]
    try:
        yield model
    finally:
        loop, task = ends[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


@dataclass
class Campaign:
    """Kills, until there were enough of them."""

    model: Model
    folder: Path
    forker: Forker
    dice: random.Random
    whole: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    repeats: int = 0
    most_in_flight: int = 0
    completed: int = 0
    lives: int = 0

    def start(self, out: Path, **options: Any) -> Command:
        self.lives += 1
        flags = ["--limit", str(ASKED.limit), "--replicates", str(ASKED.replicates)]
        flags += ["--model", MODEL, "--concurrency", str(CONCURRENCY), *self.model.flags]
        log = self.folder / f"log{self.lives % 8}"
        return self.forker.start(["run", "--out", out, *flags], log, **options)

    def measure(self) -> None:
        """Run once without a kill: what every killed run has to end with."""
        # The first one fills the server's memory; the second one shows how long a run takes.
        for name in ("first", "whole"):
            begun, before = time.monotonic(), len(self.model.log)
            command = self.start(self.folder / name)
            assert command.wait() == 0, command.output
            self.seconds = time.monotonic() - begun
            self.requests = len(self.model.log) - before
        self.whole = tables(find_runs(self.folder / "whole"))
        assert tables(find_runs(self.folder / "first")) == self.whole

    def kill(self, kills: int) -> None:
        """Kill so often, in runs that are each finished in the end."""
        done = 0
        while done < kills:
            out = self.folder / f"killed{self.completed}"
            for _ in range(min(self.dice.randint(1, 5), kills - done)):
                done += self.one_life(out, self.a_kill())
            self.one_life(out, None)
            self.check(out)
            self.completed += 1

    def a_kill(self) -> str:
        return self.dice.choice(["delay", "request", "file", "file", "torn", "drain"])

    def one_life(self, out: Path, kind: str | None) -> bool:
        """Return whether the command was killed before its end."""
        held = finished(out)
        since = len(self.model.log)
        options: dict[str, Any] = {}
        if kind == "file":
            options["dies_before"] = self.dice.choice(PLACES)
        if kind == "torn":
            options["largest_file"] = self.dice.randint(1, max(map(len, self.whole.values())))
            options["dies_of_full_disk"] = True
        stop = self.killer(since) if kind == "request" else None
        command = self.start(out, **options)
        if stop is not None:
            stop(command)
        if kind in {"delay", "drain"}:
            time.sleep(self.dice.uniform(0, self.seconds))
            command.kill(signal.SIGKILL if kind == "delay" else signal.SIGTERM)
        code = command.wait()
        self.model.on_request = lambda: None
        self.model.settle()
        # SIGTERM may come before Grace listens.
        drained = kind == "drain" and code == EXIT_INCOMPLETE
        killed = drained or code in {-signal.SIGKILL, -signal.SIGXFSZ, -signal.SIGTERM}
        assert code == 0 or (killed and kind is not None), (kind, options, command.output)
        asked = self.model.asked(since)
        # Acknowledged before this life began: never asked again.
        assert not asked & held, (kind, options)
        in_flight = asked - finished(out)
        assert len(in_flight) <= CONCURRENCY * self.model.together
        assert not in_flight or (killed and not drained)
        if kind is not None and killed:
            self.kills[kind] += 1
            self.stages[stage_of(out)] += 1
            self.kept += len(finished(out))
            self.repeats += len(in_flight)
            self.most_in_flight = max(self.most_in_flight, len(in_flight))
        return killed

    def killer(self, since: int) -> Callable[[Command], None]:
        """Kill at a request: any of those that a whole run sends."""
        last = since + self.dice.randint(1, self.requests)
        commands: list[Command] = []
        lock = threading.Lock()

        def kill_if_due() -> None:
            with lock:
                if commands and len(self.model.log) >= last:
                    commands.pop().kill()

        def told(command: Command) -> None:
            commands.append(command)
            kill_if_due()

        self.model.on_request = kill_if_due
        return told

    def check(self, out: Path) -> None:
        folders = find_runs(out)
        assert tables(folders) == self.whole
        for folder in folders:
            assert read_manifest(folder).complete
            assert not list(folder.path.glob(".*"))
        assert invoke(["validate", str(out)]) == 0

    def report(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kills.items()))
        stages = ", ".join(f"{stage} {count}" for stage, count in sorted(self.stages.items()))
        return (
            f"{self.kills.total()} kills ({kinds}); during {stages}; {self.completed} runs "
            f"finished with the same tables; {self.kept:,} answers kept, none asked again; "
            f"{self.repeats} in flight asked twice, at most {self.most_in_flight} after a kill "
            f"(bound {CONCURRENCY * self.model.together})"
        )


def tables(folders: Sequence[RunFolder]) -> dict[str, bytes]:
    """Everything that runs publish, but for manifests."""
    assert len({folder.experiment for folder in folders}) == len(folders)
    return {
        f"{folder.experiment}/{path.name}": path.read_bytes()
        for folder in folders
        for path in folder.path.iterdir()
        if path.suffix in {".csv", ".jsonl"}
    }


def finished(out: Path) -> set[QueryKey]:
    """The queries with a complete line in a journal."""
    keys: set[QueryKey] = set()
    for path in out.glob("*/*/*/journal"):
        keys |= set(read_journal(path).records)
    return keys


def stage_of(out: Path) -> str:
    """What the last run that was begun was doing."""
    begun = [RunFolder(path.parent) for path in sorted(out.glob("*/*/*/run.json"))]
    if not begun or begun[-1].closed:
        return "opening"
    names = {path.name for path in begun[-1].path.iterdir()}
    made = {name.partition("_study")[2][2:] for name in names if "_study" in name}
    if any(name.startswith(".manifest") for name in names) or "summary.csv" in made:
        return "closing"
    if any(name.startswith(".") for name in names) or made - {"raw_responses.csv"}:
        return "tables"
    if begun[-1].experiment == "exp2":
        return "score"
    return "extract" if made else "respond"


@pytest.mark.parametrize(
    ("face", "share"), [(llamacpp, 0.7), (vllm, 0.3)], ids=["llamacpp", "vllm"]
)
def test_whatever_kills_a_run_nothing_is_lost_and_nothing_is_asked_again(
    face: Callable[[], Any],
    share: float,
    tmp_path: Path,
    forker: Forker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with face() as model:
        campaign = Campaign(model, tmp_path, forker, random.Random(SEED))  # noqa: S311
        campaign.measure()
        if not model.keys:
            model.keys = asyncio.run(keys_of_llamacpp(find_runs(tmp_path / "whole")))
        # A whole run asks everything that is in its journals: the kept score is complete.
        begun = len(model.log)
        assert campaign.start(tmp_path / "again").wait() == 0
        assert model.asked(begun) == finished(tmp_path / "again")
        campaign.kill(round(KILLS * share))
        with capsys.disabled():
            print(f"\n{face.__name__}: {campaign.report()}")  # noqa: T201
