import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_runs import (
    LARGE,
    SMALL,
    Variant,
    a_run,
    catalogue,
    changed,
    everything,
    kind_and_name,
    variants,
)

from grace.catalogue.spec import Catalogue
from grace.cluster.names import driver_job_name
from grace.cluster.render import MARKER, render_folder, rendered
from grace.errors import UsageError

each_variant = pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)


def objects_in(folder: Path) -> list[Any]:
    return [
        yaml.safe_load(path.read_text("utf-8"))
        for path in folder.glob("[0-9]*/*.yaml")
        if path.name != "kustomization.yaml"
    ]


@each_variant
def test_a_folder_holds_every_object_of_the_run(variant: Variant, tmp_path: Path) -> None:
    render_folder(variant.run, tmp_path / "out")
    found = {kind_and_name(each): each for each in objects_in(tmp_path / "out")}
    # Whoever uses kubectl drives the run by hand.
    driver = ("Job", driver_job_name(variant.run.run_id))
    wanted = {kind_and_name(each): each for each in everything(variant.run)}
    assert found == {name: each for name, each in wanted.items() if name != driver}


@each_variant
def test_every_file_is_listed_and_every_listed_file_is_one_document(
    variant: Variant, tmp_path: Path
) -> None:
    render_folder(variant.run, tmp_path / "out")
    folders = list((tmp_path / "out").glob("[0-9]*"))
    assert folders
    for folder in folders:
        listing = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
        assert (listing["apiVersion"], listing["kind"]) == (
            *("kustomize.config.k8s.io/v1beta1", "Kustomization"),
        )
        assert sorted(listing["resources"]) == sorted(
            path.name for path in folder.iterdir() if path.name != "kustomization.yaml"
        )
        for name in listing["resources"]:
            (document,) = yaml.safe_load_all((folder / name).read_text("utf-8"))
            assert set(document) >= {"apiVersion", "kind", "metadata"}


def commands_of(folder: Path) -> list[str]:
    text = (folder / "README.md").read_text("utf-8")
    main = text.split("## When it goes wrong")[0]
    return re.findall(r"^kubectl (?:.*\\\n)*.*", main, re.MULTILINE)


@each_variant
def test_the_guide_applies_every_folder_in_order_and_stops_every_server(
    variant: Variant, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    render_folder(variant.run, folder)
    commands = commands_of(folder)
    applied = [line.split()[-1] for line in commands if " apply " in line]
    assert applied == sorted(path.name for path in folder.glob("[0-9]*"))
    deleted = [line.split()[-1] for line in commands if " delete " in line]
    passing = [name for name in applied if re.search(r"-(serve|files|collect)", name)]
    assert deleted == passing
    for name in applied:
        jobs = [each.stem.removeprefix("job-") for each in (folder / name).glob("job-*")]
        if name not in passing and jobs:
            waits = [line for line in commands if " wait " in line]
            assert any(all(f"job/{job}" in line for job in jobs) for line in waits), name


def test_every_key_that_is_needed_is_named_and_no_other(tmp_path: Path) -> None:
    render_folder(a_run("nrp", "gemma-2-2b", extractor="deepseek"), tmp_path / "both")
    text = (tmp_path / "both/README.md").read_text("utf-8")
    assert "--from-literal=HF_TOKEN=YOUR_KEY" in text
    assert "--from-literal=DEEPSEEK_API_KEY=YOUR_KEY" in text
    render_folder(a_run("nrp", "gpt2"), tmp_path / "none")
    assert "secret" not in (tmp_path / "none/README.md").read_text("utf-8")


def test_large_inputs_are_in_the_folder_and_the_guide_sends_them(tmp_path: Path) -> None:
    run = a_run("nrp", "gpt2", files=(SMALL, LARGE))
    render_folder(run, tmp_path / "out")
    assert (tmp_path / "out/uploads" / LARGE.name).read_bytes() == LARGE.content
    (sent,) = [line for line in commands_of(tmp_path / "out") if LARGE.name in line]
    assert LARGE.sha256 in sent
    assert sent.endswith(f"< uploads/{LARGE.name}")


def test_what_was_rendered_is_replaced(tmp_path: Path) -> None:
    render_folder(a_run("nrp", "gpt2", "gemma-2-2b"), tmp_path / "out")
    written = render_folder(a_run(), tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out")
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {*written, Path(MARKER)}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_run_is_the_same_folder() -> None:
    assert rendered(a_run("nrp", "gpt2")) == rendered(a_run("nrp", "gpt2"))


def test_a_hundred_models_of_fifty_shards_are_rendered_in_seconds(tmp_path: Path) -> None:
    base = catalogue().get("gpt2")
    models = tuple(base.model_copy(update={"key": f"model-{number}.x"}) for number in range(100))
    small = a_run(changed("nrp", jobs={"shards": 50}), recheck=5.0)
    keys = tuple(spec.key for spec in models)
    run = replace(
        small,
        settings=small.settings.model_copy(update={"model": keys}),
        catalogue=Catalogue(models=models),
    )
    before = time.process_time()
    written = render_folder(run, tmp_path / "out")
    assert time.process_time() - before < 10
    assert len([path for path in written if path.name.startswith("job-")]) == 100 * 9 + 1


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    render_folder(a_run(), tmp_path / "out")
    assert (tmp_path / "out/README.md").exists()


def test_a_folder_of_others_is_kept(tmp_path: Path) -> None:
    mine = tmp_path / "out/thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    with pytest.raises(UsageError, match="holds files that Grace did not render"):
        render_folder(a_run(), tmp_path / "out")
    assert mine.read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("change", ["added", "edited", "removed"])
def test_a_rendered_folder_that_was_changed_is_kept(change: str, tmp_path: Path) -> None:
    render_folder(a_run(), tmp_path / "out")
    readme = tmp_path / "out/README.md"
    match change:
        case "added":
            (tmp_path / "out/notes.txt").write_text("mine")
        case "edited":
            readme.write_text("mine")
        case _:
            readme.unlink()
    with pytest.raises(UsageError, match="was changed after it was rendered"):
        render_folder(a_run(), tmp_path / "out")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError, match="is not a folder"):
        render_folder(a_run(), tmp_path / "out")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        render_folder(a_run(), tmp_path / "file/out")


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    render_folder(a_run(), tmp_path / "link")
    render_folder(a_run(seed=2), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/README.md").exists()
    shutil.rmtree(tmp_path / "real")
