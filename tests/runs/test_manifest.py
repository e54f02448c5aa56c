import hashlib

import pytest

from grace.errors import RunFolderError
from grace.runs.folder import RunFolder
from grace.runs.manifest import RunManifest, read_manifest, software_versions, write_manifest

Runs = tuple[RunFolder, RunFolder]


def test_a_manifest_survives_the_round_trip(toy_runs: Runs, incomplete_runs: Runs) -> None:
    for folder in (*toy_runs, *incomplete_runs):
        manifest = read_manifest(folder)
        assert RunManifest.model_validate_json(manifest.model_dump_json()) == manifest
        before = folder.manifest_path.read_bytes()
        write_manifest(folder, manifest)
        assert folder.manifest_path.read_bytes() == before


def test_it_names_every_table_with_size_and_hash(toy_runs: Runs) -> None:
    for folder in toy_runs:
        files = read_manifest(folder).files
        assert {path.name for path in folder.path.glob("*.csv")} <= set(files)
        for name, entry in files.items():
            content = (folder.path / name).read_bytes()
            assert (entry.bytes, entry.sha256) == (
                len(content),
                hashlib.sha256(content).hexdigest(),
            )


def test_its_counts_reconcile(toy_runs: Runs, incomplete_runs: Runs) -> None:
    for folder in (*toy_runs, *incomplete_runs):
        for report in read_manifest(folder).studies.values():
            assert report.complete_rows <= report.rows
            for counts in report.queries.values():
                assert counts.planned == counts.answered + counts.failed + counts.not_asked


def test_it_says_what_a_reader_should_know_first(toy_runs: Runs, incomplete_runs: Runs) -> None:
    assert any("toy model and mean nothing" in text for text in read_manifest(toy_runs[0]).warnings)
    warnings = read_manifest(incomplete_runs[0]).warnings
    assert any("rows lack an answer" in text for text in warnings)
    assert any("4 rows show 3 distinct stimuli" in text for text in warnings)


def test_it_holds_no_folder_and_no_address_of_the_machine(incomplete_runs: Runs) -> None:
    for folder in incomplete_runs:
        text = folder.manifest_path.read_text()
        assert "127.0.0.1" not in text
        assert str(folder.path.parents[3]) not in text
        assert "/tmp" not in text  # noqa: S108


def test_versions_of_what_matters_are_recorded() -> None:
    assert {"python", "platform", "grace", "pydantic", "aiohttp"} <= set(software_versions())


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1}'])
def test_what_is_no_manifest_is_refused(toy_runs: Runs, content: str) -> None:
    toy_runs[0].manifest_path.write_text(content)
    with pytest.raises(RunFolderError, match=r"manifest\.json"):
        read_manifest(toy_runs[0])
