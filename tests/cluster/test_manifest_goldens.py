"""What is made for a small run of each profile, to the letter; and what there is for the rest."""

import pytest
from cluster_runs import a_run, everything, kind_and_name, servable
from syrupy.assertion import SnapshotAssertion

from grace.cluster.profile import load_profile
from grace.cluster.request import ClusterRun
from grace.cluster.yaml_text import yaml_text


def test_all_objects_of_the_small_model_on_a_local_cluster(snapshot: SnapshotAssertion) -> None:
    assert _text(a_run("local")) == snapshot


def test_all_objects_of_one_model_on_the_nrp(snapshot: SnapshotAssertion) -> None:
    assert _text(a_run("nrp", "gemma-2-2b", extractor="deepseek")) == snapshot


@pytest.mark.parametrize("profile", ["local", "nrp"])
def test_the_names_of_all_objects_for_the_whole_catalogue(
    profile: str, snapshot: SnapshotAssertion
) -> None:
    extractor = "deepseek" if profile == "nrp" else None
    models = [key for key in servable(load_profile(profile)) if key != "deepseek"]
    objects = everything(a_run(profile, *models, extractor=extractor))
    assert [" ".join(kind_and_name(each)) for each in objects] == snapshot


def test_the_same_run_gives_the_same_text() -> None:
    assert _text(a_run("nrp", "gpt2")) == _text(a_run("nrp", "gpt2"))


def _text(run: ClusterRun) -> str:
    return "---\n".join(map(yaml_text, everything(run)))
