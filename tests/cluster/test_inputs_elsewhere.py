"""A run whose inputs are kept elsewhere is the same run, up to where their bytes are needed."""

from dataclasses import replace

import pytest
from cluster_runs import LARGE, SMALL, a_run, everything
from hypothesis import example, given
from hypothesis import strategies as st
from small_manifests import small_run

from grace.cluster.capacity.demands import volumes
from grace.cluster.manifests import (
    Manifest,
    files_objects,
    server_objects,
    setup_objects,
    step_objects,
    upload_folder,
)
from grace.cluster.request import CONFIG_MAP_BYTES, ClusterRun, InputFile
from grace.cluster.stored_run import stored_run
from grace.errors import UsageError

_NAMES = st.lists(st.from_regex(r"[a-z]{1,8}\.csv", fullmatch=True), min_size=1, unique=True)


def elsewhere(run: ClusterRun) -> ClusterRun:
    """Return a run of whose inputs the bytes are nowhere here."""
    files = [InputFile.elsewhere(file.name, file.sha256, file.size) for file in run.files]
    return replace(run, files=tuple(files))


def without_setup(run: ClusterRun) -> list[Manifest]:
    objects = [*files_objects(run), *(item for one in run.steps for item in step_objects(run, one))]
    return [*objects, *(item for server in run.servers for item in server_objects(run, server))]


@given(names=_NAMES, content=st.binary(max_size=20), large=st.booleans())
@example(names=["a.csv"], content=b"", large=False)
def test_objects_are_the_same_whether_contents_are_known_or_not(
    names: list[str], content: bytes, *, large: bool
) -> None:
    files = [InputFile(name, content + name.encode()) for name in names]
    if large:
        files.append(InputFile("large.csv.gz", content.ljust(CONFIG_MAP_BYTES + 1)))
    known = a_run(files=tuple(files), experiment=("exp1",))
    run = elsewhere(known)
    assert run == known
    assert upload_folder(run) == upload_folder(known)
    assert list(volumes(run)) == list(volumes(known))
    assert without_setup(run) == without_setup(known)
    if large:
        assert everything(run) == everything(known)
        setup = setup_objects(run)
        assert stored_run(run, setup) == stored_run(known, setup)
    else:
        # The ConfigMaps of inputs are the only objects with their bytes.
        with pytest.raises(UsageError, match=rf"input {names[0]} .* --input STUDY=CSV"):
            setup_objects(run)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_file_is_filled_with_its_own_bytes_alone(content: bytes, other: bytes) -> None:
    file = InputFile("a.csv", content)
    bare = InputFile.elsewhere("a.csv", file.sha256, file.size)
    assert bare.filled({}).held is None
    assert bare.filled({"a.csv": other}).held == (content if other == content else None)
    assert file.filled({"a.csv": other}).held == content


def test_a_run_is_filled_with_what_is_found_here() -> None:
    run = elsewhere(replace(small_run(), files=(SMALL, LARGE)))
    filled = run.filled({SMALL.name: SMALL.content, LARGE.name: b"another", "more.csv": b""})
    assert [file.held for file in filled.files] == [SMALL.content, None]
    assert filled == run


def test_a_file_has_its_bytes_or_a_hash() -> None:
    with pytest.raises(ValueError, match="neither"):
        InputFile("a.csv", None)
