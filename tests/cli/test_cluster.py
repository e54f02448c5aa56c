"""`grace cluster` as far as no cluster is needed: its options, profiles, and what is refused at once."""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.cli.cluster_checks import check_objects, extraction_words
from grace.cli.cluster_logs import gone, pod_title, pods_of, readable
from grace.cli.cluster_options import Place, need_kubernetes
from grace.cli.cluster_profile import profile_text
from grace.cli.main import invoke
from grace.cluster.preparing import prepare_run
from grace.cluster.profile import BUILT_IN, Profile, load_profile
from grace.errors import ClusterError, UsageError
from grace.plain_yaml import FORBIDDEN
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


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_profile_is_shown_as_a_file_of_the_same_profile(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "profile", "show", name]) == 0
    path = tmp_path / "again.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_profile(str(path)) == load_profile(name)


QUOTAS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=3)


@given(quota=QUOTAS, title=st.text(min_size=1, max_size=20), size=st.floats(0.001, 1e9))
def test_a_profile_with_any_text_in_it_can_be_read_again(
    quota: dict[str, str], title: str, size: float
) -> None:
    written = load_profile("nrp").model_dump(mode="json")
    written["title"], written["namespace"]["quota"] = title, quota
    written["storage"]["logs"]["size_gb"] = size
    profile = Profile.model_validate_json(json.dumps(written))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.yaml"
        path.write_text(profile_text(profile), encoding="utf-8")
        if any(FORBIDDEN.search(text) for text in (title, *quota, *quota.values())):
            # No profile that was read from a file holds such text.
            with pytest.raises(UsageError):
                load_profile(str(path))
        else:
            assert load_profile(str(path)) == profile


def test_a_profile_of_ones_own_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: nrp\nnamespace: {name: my-lab}\n", encoding="utf-8")
    assert invoke(["cluster", "profile", "show", str(path)]) == 0
    assert "namespace:\n  name: my-lab\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "extends: nrp2\n",
            "extends is 'nrp2': there is no profile 'nrp2'; did you mean nrp?",
        ),
        (
            "extends: local\nnamespace: {names: x}\n",
            "namespace.names is not a field; did you mean name?",
        ),
        (
            "extends: local\nstorage: {output: {size_gbs: 1}}\n",
            "storage.output.size_gbs is not a field; did you mean size_gb?",
        ),
        (
            "extends: nrp\ngpus: {products: {A: {memory_gb: 1, memory: 2}}}\n",
            "gpus.products.A.memory is not a field; did you mean memory_gb?",
        ),
        ("extends: local\njob: {}\n", "job is not a field; did you mean jobs?"),
    ],
    ids=["extends", "part", "part of a part", "in a mapping", "top"],
)
def test_a_slip_in_a_profile_is_named_with_file_and_what_was_meant(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert invoke(["cluster", "profile", "show", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: {said}" in error


def test_a_kubeconfig_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "status"]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "no kubeconfig") in error
    assert "KUBECONFIG" in error
    assert "unset" in error


def test_without_a_folder_files_are_rendered_into_one_named_after_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["cluster", "render", "--timestamp", "20260131T235959Z"]) == 0
    assert "rendered-20260131T235959Z: " in capsys.readouterr().out
    assert Path("rendered-20260131T235959Z", "README.md").is_file()


def test_a_plan_says_in_words_what_comes_after_what_and_what_rules_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["cluster", "plan"]) == 0
    text = capsys.readouterr().out
    order = ["smoke test", "responses", "probabilities", "extraction", "tables"]
    places = [text.index(words, text.index("one after the other")) for words in order]
    assert places == sorted(places)
    assert len(re.findall(r"^ tables ", text, re.MULTILINE)) == 1
    assert text.count("0 violations, 0 notices") == 1
    assert "extraction: by Grace's rules" in text


def test_what_is_the_same_for_several_models_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = ["--model", "gemma-2-2b", "--model", "gemma-2-9b"]
    invoke(["cluster", "plan", "--profile", "nrp", "--namespace", "lab", *models])
    text = capsys.readouterr().out
    assert text.count("accept the licence") == 1
    assert "note: gemma-2-2b, gemma-2-9b: accept the licence" in text
    assert text.count("[site-utilisation]") == 1
    assert "and 1 more" in text
    assert "GPUs: gemma-2-2b: NVIDIA-GeForce-RTX-3090 or NVIDIA-L40" in text


@pytest.mark.parametrize(
    ("extractor", "said"),
    [
        (None, "RESPONSES OF THE MODELS LEAVE THE CLUSTER"),
        ("rules", "no other model reads the responses"),
        ("rules+gemma-2-2b", "rules first, then"),
    ],
)
def test_a_plan_says_who_reads_the_responses_where_and_how_to_choose_another(
    extractor: str | None, said: str
) -> None:
    settings = RunSettings() if extractor is None else RunSettings(extractor=extractor)
    words = extraction_words(prepare_run(settings, load_profile("nrp"), namespace="lab"))
    assert said in words
    assert "--extractor" in words


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
            "10:20:30 3 of 8 done",
        ),
        ('{"time": "", "event": "error", "error": "no key"}', "error: no key"),
        (
            '{"time": "2026-01-31T10:20:30Z", "event": "stage_finished", "study": "study1", '
            '"answered": 1200, "failed": 1, "not_asked": 0, "seconds": 70}',
            "10:20:30 study1: over: 1,200 answered, 1 failed, 0 not asked, in 1 min 10 s",
        ),
        ('{"event": "stage_started", "planned": 8, "done": 0}', "begins, 0 of 8 done before"),
        ('{"event": "message", "text": "open"}', "over; the run's folder is open"),
        ('{"event": "retry", "attempt": 2, "reason": "busy"}', "retry: attempt 2, reason busy"),
        ("INFO 01-31 ready", "INFO 01-31 ready"),
        ("[1, 2]", "[1, 2]"),
        ("{", "{"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ('{"event": "message", "message": "a\\u001b[31m"}', "a\\x1b[31m"),
    ],
    ids=[
        "progress",
        "error",
        "finished",
        "started",
        "end",
        "unknown",
        "plain",
        "list",
        "torn",
        "control",
        "control in JSON",
    ],
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


def test_pods_that_share_a_step_are_told_apart() -> None:
    shard = "batch.kubernetes.io/job-completion-index"
    step = {"grace/step": "respond.exp1.gpt2"}
    pods: list[dict[str, Any]] = [
        {"metadata": {"name": "p", "labels": {**step, shard: number}}} for number in ("0", "1")
    ]
    assert len({pod_title(pod) for pod in pods}) == 2
    assert pod_title({"metadata": {"name": "model-gpt2-0"}}) == "model-gpt2-0"


def test_logs_of_pods_that_are_gone_say_so_and_where_they_are_kept() -> None:
    run = prepare_run(RunSettings(), load_profile("local"), timestamp="20260131T235959Z")
    said = gone(run, None, [])
    assert "20260131T235959Z are gone" in said
    assert "grace-logs of grace-experiments" in said
    other: dict[str, Any] = {"metadata": {"name": "p", "labels": {"grace/step": "smoke.m"}}}
    assert "those with pods: smoke.m" in gone(run, "nosuch", [other])
