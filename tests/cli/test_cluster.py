"""`grace cluster` as far as no cluster is needed: its options, profiles, and what is refused at once."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from grace.cli.cluster_checks import check_objects
from grace.cli.cluster_logs import pods_of, readable
from grace.cli.cluster_options import Place, need_kubernetes
from grace.cli.main import invoke
from grace.cluster.preparing import prepare_run
from grace.cluster.profile import load_profile
from grace.errors import ClusterError, UsageError
from grace.settings import RunSettings

NEED_RUNS = ("plan", "run", "lint", "apply", "render --out there")


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no kubeconfig"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("GRACE_CLUSTER_PROFILE", "GRACE_CLUSTER_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def test_profiles_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["cluster", "profile", "list"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"local +A cluster on this machine", text)
    assert re.search(r"nrp +National Research Platform", text)


def test_a_profile_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["cluster", "profile", "show", "nrp"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"storage\.output\.storage_class +rook-cephfs", text)
    assert re.search(r"gpus\.products\.NVIDIA-L40\.memory_gb +48", text)


def test_a_profile_of_ones_own_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: nrp\nnamespace: {name: my-lab}\n", encoding="utf-8")
    assert invoke(["cluster", "profile", "show", str(path)]) == 0
    assert re.search(r"namespace\.name +my-lab", capsys.readouterr().out)


@pytest.mark.parametrize("command", ["plan", "status", "profile show", "run --yes"])
def test_a_profile_that_is_not_there_is_named(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.split()
    flag = [] if words[0] == "profile" else ["--profile"]
    assert invoke(["cluster", *words, *flag, "nrpp"]) == 2
    assert "there is no profile 'nrpp'; did you mean nrp?" in capsys.readouterr().err


@pytest.mark.parametrize("command", [*NEED_RUNS, "status", "logs", "collect", "down", "resume"])
def test_without_the_optional_packages_one_line_says_what_to_install(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert invoke(["cluster", *command.split()]) == 2
    assert capsys.readouterr().err == (
        "error: grace cluster needs packages that are not installed; install them with: "
        "pip install 'grace[cluster]'\n"
    )


def test_profiles_need_no_optional_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert invoke(["cluster", "profile", "list"]) == 0
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError):
        need_kubernetes()


@pytest.mark.parametrize("command", ["plan", "lint", "render --out there"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nosuch"], "there is no model 'nosuch'"),
        (["--model", "gpt2"], "gpt2: needs 1 "),
        (["--profile", "nrp"], "names no namespace; give yours: --namespace NAME"),
        (["--namespace", "Not A Name"], "--namespace is 'Not A Name'"),
        (["--shards", "0"], "jobs.shards is 0"),
        (["--spot"], "--spot: the profile local"),
        (["--endpoint", "http://10.0.0.1:8000"], "Grace serves smollm2-135m itself"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_is_wrong_with_a_run_is_found_before_anything_else(
    command: str, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", *command.split(), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not Path("there").exists()


def test_the_place_of_a_run_is_what_is_given_or_the_profiles() -> None:
    local, nrp = load_profile("local"), load_profile("nrp")
    assert Place(local, None, None).named() == "grace-experiments"
    assert Place(local, "mine", None).named() == "mine"
    with pytest.raises(UsageError, match="the profile nrp names no namespace"):
        Place(nrp, None, None).named()


def test_places_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRACE_CLUSTER_PROFILE", "nrp")
    assert invoke(["cluster", "plan"]) == 2
    assert "the profile nrp names no namespace" in capsys.readouterr().err
    monkeypatch.setenv("GRACE_CLUSTER_NAMESPACE", "not_a_name")
    assert invoke(["cluster", "plan"]) == 2
    assert "--namespace is 'not_a_name'" in capsys.readouterr().err


def test_deleting_uncollected_results_is_only_for_deleting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["cluster", "down", "--even-uncollected"]) == 2
    assert "--even-uncollected is only for --delete-results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            '{"time": "2026-01-31T10:20:30.5+00:00", "level": "info", "event": "progress", '
            '"run": "x", "stage": "respond", "done": 3, "planned": 8}',
            "10:20:30 progress stage=respond done=3 planned=8",
        ),
        ('{"time": "", "event": "error", "error": "no key"}', "error no key"),
        ("INFO 01-31 ready", "INFO 01-31 ready"),
        ("[1, 2]", "[1, 2]"),
        ("{", "{"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ('{"event": "message", "message": "a\\u001b[31m"}', "message a\\x1b[31m"),
    ],
    ids=["progress", "error", "plain", "list", "torn", "control", "control in JSON"],
)
def test_log_lines_are_made_readable(line: str, shown: str) -> None:
    assert readable(line) == shown


def test_the_pods_of_a_run_are_its_own_and_those_of_its_servers() -> None:
    run = prepare_run(RunSettings(), load_profile("local"), timestamp="20260131T235959Z")
    server = {"app.kubernetes.io/component": "model-server"}
    labels = {
        "step": {"grace/run": "20260131t235959z", "grace/step": "smoke.smollm2-135m"},
        "of another run": {"grace/run": "20250131t235959z"},
        "server": {**server, "grace/model": "smollm2-135m"},
        "of another model": {**server, "grace/model": "gpt2"},
        "unlabelled": {},
    }
    pods: list[dict[str, Any]] = [
        {"metadata": {"name": name, "labels": own}} for name, own in labels.items()
    ]

    assert pods_of(run, pods) == [pods[0], pods[2]]


@pytest.mark.parametrize(
    ("command", "code"), [(["lint"], 0), (["plan"], 1), (["render", "--out", "FOLDER"], 0)]
)
def test_images_that_are_not_named_yet_break_no_rule_and_are_planned_as_a_problem(
    command: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "rendered") if word == "FOLDER" else word for word in command]
    words += ["--profile", "nrp", "--namespace", "my-lab", "--model", "gpt2", "--limit", "2"]
    assert invoke(["cluster", *words]) == code
    text = " ".join(capsys.readouterr().out.split())
    assert "[image-placeholder]" in text
    assert "images.runner" in text
    assert "0 violations, 1 not ready to be sent" in text


def test_nothing_is_sent_while_images_are_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    nrp, asked = load_profile("nrp"), RunSettings(model=("gpt2",), limit=2)
    request = prepare_run(asked, nrp, namespace="my-lab")
    with pytest.raises(ClusterError, match="1 finding keeps this run from being sent"):
        check_objects(request)
    assert "registry.example.org" in capsys.readouterr().out
    named = nrp.model_copy(update={"images": load_profile("local").images})
    check_objects(prepare_run(asked, named, namespace="my-lab"))
