"""Trials of a study: what spreadsheets, editors and attackers make of a CSV file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hypothesis import strategies as st

from fuzz import mutations
from fuzz.harness import Broken, Target
from fuzz.mutations import recipes
from grace.runs.csvfile import csv_bytes
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.loader import parse_study
from grace.studies.make import make_rows
from grace.studies.study import Study
from grace.studies.trials import TrialSet, parse_trials

OWN_STUDY = """\
key: mine
title: Mine
description: For tests.
columns:
  - {name: word, description: A word., pattern: "[a-z =+@-]+", expected: small letters}
  - {name: note, description: Anything., may_be_empty: true}
candidates:
  - {name: liked, question: "Do you like {word}?", answers: ["yes", "no"]}
"""

CELLS = (
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "0", "3", "4", "007"),
    *("", " ", "a,b", 'a"b', "a\r\nb", "a\rb", "\u2028", "\u0663", "\uff13", "1.0", "x" * 100_000),
    *(
        "<br>",
        "{access}",
        "{",
        "\ufeffx",
        "é",
        "\U0001f600",
        "None",
        "NaN",
        "terrible",
        "exactly 3",
    ),
)
_ENDINGS = ("\n", "\r\n", "\r")
_ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252")


@dataclass(frozen=True, slots=True)
class Sheet:
    """
    Changes to the cells of a table, and how it is saved.

    Attributes:
        kind: What is done to the table.

        row, column: Where.

        cell: What is put there.

        ending, encoding, quoting, times: How it is saved; how often the rows come.
    """

    kind: str
    row: int
    column: int
    cell: str
    ending: str
    encoding: str
    quoting: int
    times: int

    def made(self, table: Sequence[Sequence[str]]) -> bytes:
        """Return the bytes of the changed table."""
        rows = [list(row) for row in table]
        row = rows[self.row % len(rows)]
        column = self.column % len(row)
        match self.kind:
            case "cell":
                row[column] = self.cell
            case "header":
                rows[0][column] = self.cell
            case "twice":
                rows[0][column] = rows[0][column - 1]
            case "longer":
                row.append(self.cell)
            case "shorter":
                row.pop(column)
            case "wider":
                rows = [[*row, self.cell] for row in rows]
            case "reversed":
                rows = [row[::-1] for row in rows]
            case "blank":
                rows.insert(self.row % len(rows), [])
            case "long":
                row[column] = self.cell * (mutations.MOST_BYTES // max(1, len(self.cell)))
            case _:
                pass
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator=self.ending, quoting=self.quoting).writerows(rows)  # type: ignore[arg-type]
        header, _, body = text.getvalue().partition(self.ending)
        whole = (
            header
            + self.ending
            + body * min(self.times, mutations.MOST_BYTES // 5 // max(1, len(body)) + 1)
        )
        return whole.encode(self.encoding, "replace")


def csv_targets() -> list[Target]:
    """Return the parser of trials, for each kind of study."""
    made = []
    for study in (*BUILTIN_STUDIES.values(), parse_study(OWN_STUDY, "mine.yaml")):
        table = _table(study)
        sheet = st.builds(
            Sheet,
            st.sampled_from(
                ["cell"] * 70
                + ["none", "header", "twice", "longer", "shorter", "wider", "reversed", "blank"]
                * 10
                + ["long"]
            ),
            st.integers(0, 9),
            st.integers(0, 9),
            st.sampled_from(CELLS) | st.text(max_size=8),
            st.sampled_from(_ENDINGS),
            st.sampled_from(_ENCODINGS),
            st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
            st.sampled_from([1] * 150 + [10] * 20 + [100_000]),
        )
        begun = sheet.map(lambda one, table=table: partial(one.made, table))  # type: ignore[misc]
        read = partial(parse_trials, study, source="input.csv")
        made.append(Target(f"CSV of {study.key}", recipes(begun), read, _check))
    return made


def _table(study: Study) -> list[list[str]]:
    if study.key not in BUILTIN_STUDIES:
        return [["word", "note"], ["cat", ""], ["dog", "=1+1"], ["an owl", "last"]]
    rows = make_rows(study.key, 4, 1)
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def _check(content: bytes, read: object) -> None:
    trials = read
    if not isinstance(trials, TrialSet):
        raise Broken(f"{type(read)} was read")
    # What was read goes into tables, and must come back from them cell by cell.
    written = csv_bytes(trials.header, [trial.cells for trial in trials.trials])
    told = cells_of(content.decode("utf-8-sig"))
    if cells_of(written.decode()) != told:
        raise Broken("the output's input columns are not those of the input")
    if [list(trials.header), *(list(trial.cells) for trial in trials.trials)] != told:
        raise Broken("the cells that were read are not those of the file")


def cells_of(text: str) -> list[list[str]]:
    """
    Return the cells of a CSV text: RFC 4180, written apart from the parser that is tried.

    Lines end in LF, CRLF or CR. A line without any character is no row.
    """
    rows: list[list[str]] = []
    row: list[str] = []
    here, length = 0, len(text)
    while here < length:
        if text[here] == '"':
            end = text.index('"', here + 1)
            while text[end : end + 2] == '""':
                end = text.index('"', end + 2)
            row.append(text[here + 1 : end].replace('""', '"'))
            here = end + 1
        else:
            end = min(_next(text, mark, here) for mark in (",", "\r", "\n"))
            row.append(text[here:end])
            here = end
        if here < length and text[here] == ",":
            here += 1
            if here == length or text[here] in "\r\n":
                row.append("")
            else:
                continue
        if row != [""] or text[here - 1 : here] == '"':
            rows.append(row)
        row = []
        here += 2 if text.startswith("\r\n", here) else 1
    return rows


def _next(text: str, mark: str, here: int) -> int:
    found = text.find(mark, here)
    return len(text) if found < 0 else found
