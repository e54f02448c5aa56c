"""`--retry-failed` asks what failed and what depends on it, and nothing else; counted at a server."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fake_llamacpp import Asked, FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.plan import plan_responses, plan_scores
from grace.inference.toy import ToyClient
from grace.pipeline.inputs import load_inputs
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from grace.settings import RunSettings
from grace.studies.prompts import PromptMode, build_prompt
from inputs import input_flags

MODEL = ("--model", "smollm2-135m")


@dataclass
class Setting:
    server: FakeLlamaCpp
    url: str
    inputs: Mapping[str, Path]
    tmp_path: Path

    def run(self, out: str, *flags: str) -> int:
        self.server.asked.clear()
        command = ["run", "--endpoint", self.url, "--out", str(self.tmp_path / out), *MODEL]
        return invoke([*command, *input_flags(self.inputs), *flags])

    def resume(self, out: str, *flags: str) -> int:
        self.server.asked.clear()
        return invoke(["resume", str(self.folder(out).path), *flags])

    def folder(self, out: str) -> RunFolder:
        (folder,) = find_runs(self.tmp_path / out)
        return folder

    def tables(self, out: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder(out).path.glob("*.csv")}

    def asked(self, kind: str) -> list[Asked]:
        return [one for one in self.server.asked if one.kind == kind]


@pytest.fixture
def setting(tmp_path: Path, small_inputs: dict[str, Path]) -> Iterator[Setting]:
    server = FakeLlamaCpp()
    with served(server) as url:
        yield Setting(server, url, small_inputs, tmp_path)


def refusing(seeds: set[int]) -> Any:
    def trouble(_number: int, payload: Mapping[str, Any]) -> web.Response | None:
        return refuse(400) if payload.get("seed") in seeds else None

    return trouble


def settings_of(inputs: Mapping[str, Path]) -> RunSettings:
    return RunSettings.model_validate({"input": inputs, "study": tuple(inputs)})


def dialogues(inputs: Mapping[str, Path]) -> list[list[int]]:
    """The seeds of each dialogue's turns."""
    return [
        [query.seed for query in dialogue.queries]
        for trials in load_inputs(settings_of(inputs))
        for dialogue in plan_responses(trials, seed=1, replicates=1, deterministic=False).dialogues
    ]


@pytest.mark.parametrize("again", ["run", "resume", "resume an open run"])
def test_in_dialogues_the_failed_turn_and_those_after_it_are_asked_again(
    setting: Setting, again: str
) -> None:
    flags = ("--experiment", "exp1", "--extractor", "rules")
    assert setting.run("whole", *flags) == 0
    held = [turns for turns in dialogues(setting.inputs) if len(turns) == 3]
    # One dialogue fails at its first turn, one at the second, one at the third.
    failed = {held[0][0], held[1][1], held[2][2]}
    setting.server.trouble = refusing(failed)
    assert setting.run("out", *flags) == 3
    later = {*held[0][1:], held[1][2]}
    assert not later & set(setting.server.seeds())
    counts = read_manifest(setting.folder("out")).studies["study1"].queries
    assert {name: (one.failed, one.not_asked) for name, one in counts.items()} == {
        "prior": (1, 0),
        "speech": (1, 1),
        "knowledge": (1, 2),
    }
    # Without the flag, nothing is asked.
    assert setting.run("out", *flags) == 3
    assert setting.server.asked == []
    setting.server.trouble = lambda _number, _payload: None
    match again:
        case "run":
            assert setting.run("out", *flags, "--retry-failed") == 0
        case "resume":
            assert setting.resume("out", "--retry-failed") == 0
        case _:
            setting.folder("out").manifest_path.unlink()
            assert setting.resume("out", "--retry-failed") == 0
    # Beside the probes of `connect`, which have no seed.
    assert sorted(setting.server.seeds()) == sorted(failed | later)
    assert setting.tables("out") == setting.tables("whole")
    assert read_manifest(setting.folder("out")).complete
    assert setting.run("out", *flags, "--retry-failed") == 0
    assert setting.server.asked == []


def test_a_query_that_fails_again_is_counted_once(setting: Setting) -> None:
    flags = ("--experiment", "exp1", "--extractor", "rules", "--retry-failed")
    held = [turns for turns in dialogues(setting.inputs) if len(turns) == 3]
    setting.server.trouble = refusing({held[0][1]})
    for _ in range(3):
        assert setting.run("out", *flags) == 3
        counts = read_manifest(setting.folder("out")).studies["study1"].queries["speech"]
        assert (counts.planned, counts.answered, counts.failed) == (4, 3, 1)
    assert setting.server.seeds() == [held[0][1]]


def prompts(inputs: Mapping[str, Path]) -> list[tuple[int, ...]]:
    """The tokens of each prompt of Experiment 2."""
    toy = ToyClient()

    async def render() -> list[tuple[int, ...]]:
        return [
            (await toy.render(build_prompt([query.turn], [], PromptMode.CHAT))).token_ids
            for trials in load_inputs(settings_of(inputs))
            for query in plan_scores(trials).queries
        ]

    return asyncio.run(render())


def test_of_the_distributions_only_the_failed_are_asked_again(setting: Setting) -> None:
    assert setting.run("whole", "--experiment", "exp2") == 0
    every = prompts(setting.inputs)
    failed = {every[1], every[7], every[-1]}

    def trouble(_number: int, payload: Mapping[str, Any]) -> web.Response | None:
        asked = tuple(payload["prompt"])
        bad = any(asked[: len(one)] == one for one in failed)
        return refuse(400) if bad else None

    setting.server.trouble = trouble
    assert setting.run("out", "--experiment", "exp2") == 3
    manifest = read_manifest(setting.folder("out"))
    counts = [one for study in manifest.studies.values() for one in study.queries.values()]
    assert sum(one.failed for one in counts) == 3
    setting.server.trouble = lambda _number, _payload: None
    assert setting.run("out", "--experiment", "exp2", "--retry-failed") == 0
    known = {
        one for asked in setting.asked("score") for one in every if asked.prompt[: len(one)] == one
    }
    assert known == failed
    assert setting.tables("out") == setting.tables("whole")


def test_of_the_extractions_only_the_failed_and_the_new_are_asked_again(setting: Setting) -> None:
    flags = ("--experiment", "exp1", "--study", "study2", "--extractor", "smollm2-135m")
    server = setting.server
    setting.inputs = {"study2": setting.inputs["study2"]}
    server.extract = lambda fields, _: json.dumps(
        dict.fromkeys(fields) | {"Was/Wasn't": "was", "Assessment": "good"}
    )
    assert setting.run("whole", *flags) == 0
    extractions = sorted({one.prompt for one in setting.asked("extract")})
    assert len(extractions) > 1
    seed = dialogues(setting.inputs)[-1][0]

    def trouble(_number: int, payload: Mapping[str, Any]) -> web.Response | None:
        bad = tuple(payload["prompt"]) == extractions[0] or payload.get("seed") == seed
        return refuse(400) if bad else None

    server.trouble = trouble
    assert setting.run("out", *flags) == 3
    before = {one.prompt for one in setting.asked("extract")}
    server.trouble = lambda _number, _payload: None
    assert setting.run("out", *flags, "--retry-failed") == 0
    assert server.seeds() == [seed]
    asked = [one.prompt for one in setting.asked("extract")]
    # What failed, and the response that was not there before.
    assert set(asked) == {extractions[0], *(set(extractions) - before)}
    assert len(asked) == len(set(asked))
    assert setting.tables("out") == setting.tables("whole")


def test_failed_extractions_alone_are_asked_again_too(setting: Setting) -> None:
    flags = ("--experiment", "exp1", "--study", "study2", "--extractor", "smollm2-135m")
    server = setting.server
    setting.inputs = {"study2": setting.inputs["study2"]}

    def trouble(_number: int, payload: Mapping[str, Any]) -> web.Response | None:
        return refuse(400) if "json_schema" in payload else None

    server.trouble = trouble
    # Every response is there: extraction is not a missing answer.
    assert setting.run("out", *flags) == 0
    failed = {one.prompt for one in setting.asked("extract")}
    server.trouble = lambda _number, _payload: None
    assert setting.resume("out", "--retry-failed") == 0
    assert {one.prompt for one in setting.asked("extract")} == failed
    assert not setting.asked("generate")


def test_failed_rechecks_alone_are_asked_again_too(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--experiment", "exp2", "--recheck", "30")
    assert setting.run("whole", *flags) == 0
    first = len(setting.asked("score"))
    assert setting.run("out", "--experiment", "exp2") == 0
    without = len(setting.asked("score"))
    assert without < first
    setting.server.trouble = lambda number, _: refuse(400) if number > 2 else None
    # The first measurement is complete: a check of it is no missing answer.
    assert setting.run("out", *flags) == 0
    manifest = read_manifest(setting.folder("out"))
    again = [one.recheck for one in manifest.studies.values() if one.recheck]
    assert sum(one.failed for one in again) == sum(one.planned for one in again) > 0
    capsys.readouterr()
    assert invoke(["status", str(setting.folder("out").path)]) == 0
    assert "--retry-failed" in capsys.readouterr().out
    setting.server.trouble = lambda _number, _payload: None
    assert setting.resume("out", "--retry-failed") == 0
    manifest = read_manifest(setting.folder("out"))
    again = [one.recheck for one in manifest.studies.values() if one.recheck]
    assert sum(one.answered for one in again) == sum(one.planned for one in again)
    assert 0 < len(setting.asked("score")) < without
    assert setting.tables("out") == setting.tables("whole")
