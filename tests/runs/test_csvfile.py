import csv
import io
import itertools
import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grace.api import read_dataframe
from grace.errors import RunFolderError
from grace.runs.csvfile import (
    Table,
    csv_bytes,
    number_text,
    read_table,
    stream_table,
    write_bytes,
    write_table,
)
from grace.studies.streamed import Streamed
from strategies import any_text, tables


def round_trip(table: Table) -> Table:
    with TemporaryDirectory() as name:
        path = Path(name) / "table.csv"
        write_bytes(path, csv_bytes(table.header, table.rows))
        return read_table(path)


@given(tables())
@example(Table(("a",), (("\r",), ("\n",), ("\r\n",), ('"',), ('""',), (",",), ("",))))
@example(Table(("",), (("",),)))
@example(Table(("\ufeffa", "b"), (("\u2028", "\0"),)))
def test_any_text_survives_the_round_trip(table: Table) -> None:
    assert round_trip(table) == table


@given(tables())
def test_other_readers_of_csv_see_the_same_cells(table: Table) -> None:
    text = csv_bytes(table.header, table.rows).decode()
    rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    assert rows == [table.header, *table.rows]


@given(tables(any_text))
def test_half_a_surrogate_pair_is_written_as_its_escape(table: Table) -> None:
    def escaped(cells: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cell.encode("utf-8", "backslashreplace").decode() for cell in cells)

    read = round_trip(table)
    assert read.header == escaped(table.header)
    assert read.rows == tuple(map(escaped, table.rows))


def test_cells_are_quoted_only_where_they_must_be() -> None:
    content = csv_bytes(("a", "b"), [("plain text", 'say "it"'), ("x,y", "1\r2"), ("", " ")])
    assert content == b'a,b\nplain text,"say ""it"""\n"x,y","1\r2"\n, \n'


def test_pandas_reads_only_empty_cells_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_bytes(path, csv_bytes(("a", "b"), [("NA", "1"), ("", "2"), ("null", "3")]))
    frame = read_dataframe(path)
    assert frame["a"].isna().tolist() == [False, True, False]
    assert frame["a"][0] == "NA"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_nine_digits(value: float) -> None:
    assert float(number_text(value)) == pytest.approx(value, rel=5e-9, abs=0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"a,b\n1\n", r"row 1: has 1 cells; the header has 2"),
        (b"a,b\n1,2\n1,2,3\n", r"row 2: has 3 cells"),
        (b'a\n"never closed\n', "is not CSV"),
        (b"a\n\xff\n", "cannot be read"),
    ],
)
def test_what_is_not_a_table_is_refused_with_its_place(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"table\.csv.*{problem}"):
        read_table(path)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no such file"):
        read_table(tmp_path / "table.csv")


def test_a_very_long_cell_is_read(tmp_path: Path) -> None:
    table = Table(("a", "b"), (("x" * 900_000, ""),))
    assert round_trip(table) == table


def test_a_file_that_could_not_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_bytes(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(RunFolderError, match=r"table\.csv: cannot be written: File too large"):
            write_bytes(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]


def test_rows_are_written_as_they_are_made_and_nothing_is_left_of_half_a_table(
    tmp_path: Path,
) -> None:
    path = tmp_path / "table.csv"
    write_bytes(path, b"old")
    endless = Table(("a",), Streamed(lambda: itertools.repeat(("1",)), 0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RunFolderError, match=r"table\.csv: cannot be written: File too large"):
            write_table(path, endless)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]


def test_a_fault_in_the_making_of_a_row_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_bytes(path, b"old")
    with pytest.raises(ValueError, match="invalid literal"):
        write_table(path, Table(("a",), Streamed(lambda: ((str(int(x)),) for x in "12x"), 3)))
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_bytes() == b"old"


@given(tables())
def test_a_streamed_table_is_the_same_in_every_pass(table: Table) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "table.csv"
        write_table(path, table)
        assert path.read_bytes() == csv_bytes(table.header, table.rows)
        streamed = stream_table(path)
        assert streamed == streamed == table


def test_a_streamed_table_tells_its_faults_where_they_are_met(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\n1,2\n3\n")
    rows = iter(stream_table(path).rows)
    assert next(rows) == ("1", "2")
    with pytest.raises(RunFolderError, match="row 2: has 1 cells"):
        next(rows)


def test_a_column_is_found_by_its_name() -> None:
    table = Table(("a", "b"), (("1", "2"), ("3", "4")))
    assert table.column("b") == ("2", "4")
    with pytest.raises(ValueError, match="not in tuple"):
        table.column("c")
