from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.catalogue.sources import (
    FileSource,
    HubSource,
    WheelMember,
    parse_file_uri,
    parse_hub_uri,
    parse_pypi_uri,
)

SHA = "ab" * 32
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)
PATHS = st.lists(
    st.text(st.characters(exclude_characters="/\\\0", codec="utf-8"), min_size=1).filter(
        lambda part: part not in {".", ".."}
    ),
    min_size=1,
    max_size=3,
).map("/".join)


def test_a_hub_uri_names_repository_revision_and_file() -> None:
    expected = HubSource("owner/repo", "main", "sub/model.gguf")
    assert expected == parse_hub_uri("hf://owner/repo@main/sub/model.gguf")


@given(NAMES, NAMES, st.none() | NAMES)
def test_a_hub_uri_survives_a_round_trip(owner: str, name: str, revision: str | None) -> None:
    source = HubSource(f"{owner}/{name}", revision)
    assert source == parse_hub_uri(str(source))


@given(PATHS)
def test_a_pypi_uri_survives_a_round_trip_whatever_the_member_is_called(member: str) -> None:
    expected = WheelMember("some-dist", "1.0.post1", member, SHA)
    assert expected == parse_pypi_uri(str(expected))


@given(PATHS)
def test_a_file_uri_survives_a_round_trip_whatever_the_path(path: str) -> None:
    expected = FileSource(Path("/srv") / path)
    assert expected == parse_file_uri(str(expected))


def test_a_relative_file_counts_from_the_given_folder() -> None:
    assert Path("/srv/Weights/a.gguf") == parse_file_uri("file://Weights/a.gguf", Path("/srv")).path


@pytest.mark.parametrize(
    "uri",
    [
        "hf://only-one-part",
        "hf://owner/repo@main/../../etc/passwd",
        "hf://owner/repo/file-without-revision",
        "https://example.org/model",
        "hf:///repo",
        "hf://own er/repo",
    ],
)
def test_a_bad_hub_uri_is_refused_with_the_expected_form(uri: str) -> None:
    with pytest.raises(ValueError, match=r"expected hf://owner/repo|must stay inside"):
        parse_hub_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        f"pypi://dist/member?sha256={SHA}",
        f"pypi://--index-url=x==1.0/member?sha256={SHA}",
        f"pypi://dist==--evil/member?sha256={SHA}",
        f"pypi://dist==1.0/?sha256={SHA}",
        "pypi://dist==1.0/member",
        f"pypi://dist==1.0/member?sha256={SHA[:-1]}",
        f"pypi://dist==1.0/member?sha256={SHA}&sha256={SHA}",
        f"pypi://dist==1.0/../member?sha256={SHA}",
    ],
)
def test_a_bad_pypi_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"expected pypi://|must stay inside"):
        parse_pypi_uri(uri)


@pytest.mark.parametrize("uri", ["file://", "http:///x", "file:///x?sha256=abc"])
def test_a_bad_file_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"expected file://|64 hexadecimal"):
        parse_file_uri(uri)


def test_only_a_full_commit_pins_a_repository() -> None:
    assert HubSource("a/b", "0" * 40).pinned
    assert not HubSource("a/b", "main").pinned
    assert not HubSource("a/b").pinned
