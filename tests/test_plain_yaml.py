import math
from pathlib import Path

import pytest

from grace.catalogue.lockfile import read_lock
from grace.catalogue.spec import load_catalogue
from grace.errors import CatalogueError, UsageError
from grace.plain_yaml import MAX_BYTES, read_plain_yaml
from grace.settings import make_settings, read_config


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: [1, -2, 0o17, 0x1F, +3]", {"a": [1, -2, 15, 31, 3]}),
        ("a: [1.5, -.5, 1e3, 1., .inf, -.INF]", {"a": [1.5, -0.5, 1e3, 1.0, math.inf, -math.inf]}),
        ("a: [true, FALSE, ~, null, ]", {"a": [True, False, None, None]}),
        ('a: ["1", \'true\', "null", ""]', {"a": ["1", "true", "null", ""]}),
        # What YAML 1.1 or a careless loader makes numbers or dates of stays text.
        (
            "a: [yes, 1_000, 2026-01-02, 2026-99-99]",
            {"a": ["yes", "1_000", "2026-01-02", "2026-99-99"]},
        ),
        ("a: 12:30:45\nb: |\n  1\n", {"a": "12:30:45", "b": "1\n"}),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str | bytes, value: object) -> None:
    assert read_plain_yaml(written(tmp_path, text), UsageError) == value


def test_nan_is_read_and_left_to_whoever_wants_a_number(tmp_path: Path) -> None:
    read = read_plain_yaml(written(tmp_path, "[.nan]"), UsageError)
    assert isinstance(read, list)
    assert math.isnan(read[0])


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

HOSTILE = [
    (LAUGHS, "line 1: an anchor"),
    ("a: 1\nb: *a", "line 2: an anchor"),
    ("a: &a [*a]", "an anchor"),
    ("a: !!python/object/apply:os.system [id]", "line 1: the tag"),
    ("a: !!binary aGk=", "the tag"),
    ("a: !!timestamp 2026-01-02", "the tag"),
    ("a: 1\na: 2", "line 2: found duplicate key 'a'"),
    ("1: 1\n1: 2", "line 2: found duplicate key '1'"),
    ("? [a]\n: b", "a key is not plain text"),
    ("a: 1\n---\nb: 2", "line 2: a second document"),
    ("%YAML 1.1\n---\na: 1", "% directive"),
    ("a: " + "[" * 100_000, "nested more than 12 deep"),
    ("a: " + "{b: " * 1_000, "nested more than 12 deep"),
    ("- a\n" * 30_000, "line 20000: has more than 20,000 parts"),
    ("a: " + "9" * 5_000, "a number of 5000 characters"),
    ('a: "\\0"', r"line 1: holds the character U\+0000"),
    ('a: "\\e[31m"', r"holds the character U\+001B"),
    ('"a\\ud800": 1', r"holds the character U\+D800"),
    ("a: b\0c", "not valid YAML"),
    ("a: [1", "not valid YAML"),
    (b"\xff\xfea\0", "not UTF-8"),
    ("a" * (MAX_BYTES + 1), "larger than 1,000,000 bytes"),
]


@pytest.mark.parametrize(("text", "problem"), HOSTILE, ids=map(str, range(len(HOSTILE))))
def test_what_is_not_plain_is_refused_with_file_and_line_by_every_reader(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=problem) as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 1_000
    with pytest.raises(CatalogueError, match=problem):
        load_catalogue(path)
    with pytest.raises(CatalogueError, match=problem):
        read_lock(path, must_exist=True)


def test_a_name_with_a_dash_and_one_with_an_underscore_are_the_same_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'top_k' is given twice"):
        read_config(written(tmp_path, "top-k: 1\ntop_k: 2"))


@pytest.mark.parametrize(
    "text",
    [
        *("seed: true", "limit: true", 'limit: "10"', "limit: 10.0", "top_k: '1.0'", "seed: 1.0"),
        *("temperature: true", "temperature: '0.7'", "temperature: .nan", "recheck: .inf"),
        *("pmi: 1", 'pmi: "no"', "pmi: off", "new: yes", "dry_run: 0", "seed: 2026-01-02"),
    ],
)
def test_a_setting_is_never_turned_into_something_else(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=text.split(":", maxsplit=1)[0]):
        make_settings(read_config(written(tmp_path, text)), "file.yaml")


def test_a_bad_config_of_any_size_has_a_short_message(tmp_path: Path) -> None:
    long = "".join(f"k{number}: 1\n" for number in range(5_000))
    for text in (long, f"seed: {'x' * 500_000}", f"{'x' * 500}: 1", f"study: [[{'a,' * 9_000}]]"):
        with pytest.raises(UsageError) as caught:
            make_settings(read_config(written(tmp_path, text)), "file.yaml")
        assert len(str(caught.value)) < 20_000
