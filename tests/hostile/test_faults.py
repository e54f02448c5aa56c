"""Every fault of `docs/reference/faults.md` has the outcome that is written there."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostile.faults import FAULTS
from hostile.process import Hostile
from hostile.runs import Experiment, Ran, run
from hostile.script import Rule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "faults.md"

# What is asked for an answer; not what is asked for tokens or a template.
ANSWERS = {"vllm": "/v1/c", "llamacpp": "/completion"}
TARGET = "Zelda"
CANARY = "Are you there?"

# Only responses can be cut or empty.
RESPONSES = frozenset({"cut", "abort", "unknown-end", "empty-content"})
HANGING = frozenset({"hang", "hang-in-body", "drip"})
# Faults of the whole server befall it once.
OF_THE_SERVER = frozenset(
    {"restart", "gone", "other-version", "other-version-quietly", "other-model"}
)
ON_LLAMACPP = (
    "reset", "restart", "gone", "http-400", "http-401", "http-429-seconds",
    "http-503", "html", "truncated-json", "nan", "minus-infinity", "logprob-above-zero", "cut",
    "wrong-model", "other-version", "other-version-quietly", "other-model",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Documented:
    """One line of the page."""

    name: str
    outcome: str
    words: str

    @property
    def fault(self) -> str:
        return self.name.removesuffix("-once")

    @property
    def experiment(self) -> Experiment:
        return "exp1" if self.name in RESPONSES else "exp2"

    def rules(self, path: str, *, times: int = 0) -> list[Rule]:
        if self.fault in OF_THE_SERVER:
            return [Rule(self.fault, about=TARGET, times=1, on=path, seconds=0.05)]
        rules = [Rule(self.fault, about=TARGET, times=times, on=path)]
        if self.outcome == "stopped":
            rules.append(Rule(self.fault, about=CANARY, on=path))
        return rules


def documented() -> list[Documented]:
    lines = re.findall(
        r"^\| `([a-z0-9-]+)` \| [^|]+ \| (\w+) \|(?: `([^`]+)`)? ?\|$", PAGE.read_text(), re.M
    )
    return [Documented(*line) for line in lines]


LINES = {line.name: line for line in documented()}
EACH = pytest.mark.parametrize("name", sorted(LINES))


def test_every_fault_is_documented_and_every_documented_fault_exists() -> None:
    assert {line.fault for line in LINES.values()} == FAULTS
    table_lines = re.findall(r"^\| `", PAGE.read_text(), re.M)
    assert len(table_lines) == len(documented()) == len(LINES)
    assert {line.outcome for line in LINES.values()} == {
        "answered",
        "retried",
        "failed",
        "stopped",
    }
    assert all(line.words for line in LINES.values() if line.outcome != "answered")


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Ran]:
    """Runs without any fault, made when first needed."""
    return {}


class Trial:
    """Runs on one server, compared with the same run in health."""

    def __init__(
        self,
        line: Documented,
        face: str,
        server: Hostile,
        healthy: dict[tuple[str, str], Ran],
        folder: Path,
        rows: Path,
        capsys: pytest.CaptureFixture[str],
        wide: Path,
    ) -> None:
        self.line = line
        self.path = ANSWERS[face]
        self.server = server
        self._folder, self._rows, self._capsys = folder, rows, capsys
        # On a busy machine, a healthy request may take as long: hence more attempts.
        hanging = line.name in HANGING
        self.limits: dict[str, float] = {"request_seconds": 0.5, "attempts": 6} if hanging else {}
        if line.name in {"restart", "other-version", "other-model"}:
            self.limits = {"attempts": 30, "retry_wait_seconds": 0.02}
        key = (face, line.experiment)
        if key not in healthy:
            server.follow()
            healthy[key] = run(
                server.url, wide / face / line.experiment, rows, line.experiment, capsys
            )
            assert healthy[key].code == 0
        self.healthy = healthy[key]

    def run(self, name: str, *rules: Rule) -> Ran:
        self.server.follow(*rules)
        ran = run(
            self.server.url,
            self._folder / name,
            self._rows,
            self.line.experiment,
            self._capsys,
            **self.limits,
        )
        if rules:
            assert self.server.befell()[self.line.fault] >= 1
        return ran

    def is_like_the_healthy_run(self, ran: Ran) -> None:
        assert ran.code == 0, ran.text
        assert ran.tables() == self.healthy.tables()
        assert ran.lines() == len(ran.records()) == 3

    def misses_only_the_target(self, ran: Ran) -> None:
        assert ran.code == 3, ran.text
        for row, well in zip(ran.rows(), self.healthy.rows(), strict=True):
            if row["SP_Name" if "SP_Name" in row else "row"] in {"Zelda", "2"}:
                assert row["status"] == "failed"
                assert self.line.words in row["error"]
                assert not row.get("response")
                assert not row.get("logprob")
            else:
                assert row == well
        assert ran.lines() == len(ran.records()) == 3


@pytest.fixture
def trial(
    request: pytest.FixtureRequest,
    healthy: dict[tuple[str, str], Ran],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    three_rows: Path,
    capsys: pytest.CaptureFixture[str],
) -> Trial:
    face, name = request.param
    server = request.getfixturevalue(f"hostile_{face}")
    wide = tmp_path_factory.mktemp("healthy")
    return Trial(LINES[name], face, server, healthy, tmp_path, three_rows, capsys, wide)


def lines_of(outcome: str) -> pytest.MarkDecorator:
    cases = [("vllm", name) for name in LINES] + [("llamacpp", name) for name in ON_LLAMACPP]
    chosen = [case for case in cases if LINES[case[1]].outcome == outcome]
    return pytest.mark.parametrize(
        "trial", chosen, ids=[f"{name}-{face}" for face, name in chosen], indirect=True
    )


@lines_of("answered")
def test_answered(trial: Trial) -> None:
    ran = trial.run("ran", *trial.line.rules(trial.path))
    if trial.line.name == "cut":
        assert ran.code == 0
        assert "1 responses were cut off" in ran.text
    elif trial.line.name == "empty-content":
        assert [row["status"] for row in ran.rows()] == ["answered"] * 3
        assert [row["response"] == "" for row in ran.rows()] == [False, True, False]
    else:
        trial.is_like_the_healthy_run(ran)


@lines_of("retried")
def test_retried(trial: Trial) -> None:
    once = trial.run("once", *trial.line.rules(trial.path, times=1))
    trial.is_like_the_healthy_run(once)
    most = max(record.attempts for record in once.records())
    assert most >= 2 if trial.line.name in HANGING else most == 2
    trial.misses_only_the_target(trial.run("always", *trial.line.rules(trial.path)))


@lines_of("failed")
def test_failed(trial: Trial) -> None:
    ran = trial.run("ran", *trial.line.rules(trial.path))
    trial.misses_only_the_target(ran)
    assert [record.attempts for record in ran.records()] == [1, 1, 1]


@lines_of("stopped")
def test_stopped(trial: Trial) -> None:
    ran = trial.run("ran", *trial.line.rules(trial.path))
    assert ran.code == 1, ran.text
    assert trial.line.words in ran.text
    assert all(record.status == "answered" for record in ran.records())
    trial.is_like_the_healthy_run(trial.run("ran"))
