"""What a run keeps: journal, run.json, manifest.json and tables, changed by someone else."""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer
from hypothesis import strategies as st

from fuzz.csv_inputs import CELLS
from fuzz.harness import Broken, Target
from fuzz.mutations import JsonChange, Recipe, json_changes, json_parts, recipes, written
from grace.cli import results
from grace.cli.main import invoke
from grace.engine.journal import JournalState, read_journal
from grace.engine.plan import plan_responses, plan_scores
from grace.engine.record import encode
from grace.errors import GraceError
from grace.extraction.extract import extract_rows
from grace.pipeline.asking import row_texts
from grace.pipeline.closing import query_counts, response_keys, score_keys
from grace.pipeline.reopen import reopen
from grace.runs.csvfile import Table
from grace.runs.folder import RunFolder, find_runs
from grace.runs.score_table import score_table
from grace.runs.scored import score_all
from grace.runs.tables import probability_table, response_table, structured_table
from inputs import input_flags, write_inputs

KEPT = ("journal lines", "journal values", "run.json", "manifest.json", "run tables")


class _Faulty(GraceError):
    """A command found faults."""


def toy_run(folder: Path) -> Path:
    """Run both studies and both experiments on the toy model; return what `--out` was."""
    out = folder / "out"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = invoke(["run", "--dry-run", "--out", str(out), *input_flags(write_inputs(folder))])
    if code:
        raise RuntimeError(f"the toy run ended with {code}")
    return out


def kept_targets(folder: Path) -> list[Target]:
    """Return the readers of a run folder, on a run that is made in *folder*."""
    runs = find_runs(toy_run(folder))
    journals = [path for run in runs for path in sorted(run.journal.glob("*.jsonl"))]
    return [
        Target(
            "journal lines",
            recipes(_changed_lines([path.read_bytes() for path in journals])),
            partial(_journal, folder / "journal"),
            _same_lines,
        ),
        Target(
            "journal values",
            _one_of(journals, _line_changes()),
            partial(_values, runs, journals),
        ),
        _file_target("run.json", [run.record_path for run in runs], runs),
        _file_target("manifest.json", [run.manifest_path for run in runs], runs),
        Target(
            "run tables",
            _one_of(
                tables := [t for run in runs for t in sorted(run.path.glob("*.csv"))], _cells()
            ),
            partial(_commands, tables, runs),
            partial(_unchanged, tables),
        ),
    ]


def _file_target(name: str, paths: Sequence[Path], runs: Sequence[RunFolder]) -> Target:
    return Target(name, _one_of(paths, json_parts()), partial(_commands, paths, runs))


def _one_of(
    paths: Sequence[Path], shaped: st.SearchStrategy[Callable[[bytes], bytes]]
) -> st.SearchStrategy[Recipe]:
    """Draw one of several files, changed, behind a line with its number."""
    contents = [path.read_bytes() for path in paths]

    def begun(number: int, change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
        return lambda: b"%d\n" % number + change(contents[number])

    return recipes(st.builds(begun, st.integers(0, len(paths) - 1), shaped))


def _numbered(content: bytes, paths: Sequence[Path]) -> tuple[Path, bytes]:
    first, _, rest = content.partition(b"\n")
    return paths[int(first) % len(paths) if first.isdigit() and len(first) < 9 else 0], rest


@contextlib.contextmanager
def _in_place(path: Path, content: bytes, runs: Sequence[RunFolder]) -> Iterator[None]:
    """Put a changed file where it belongs, and everything back afterwards."""
    kept = runs[0].path.parents[2].with_name("kept")
    if not kept.exists():
        shutil.copytree(runs[0].path.parents[2], kept)
    path.write_bytes(content)
    try:
        yield
    finally:
        for file in path.parent.iterdir():
            if file.is_file():
                shutil.copyfile(kept / file.relative_to(runs[0].path.parents[2]), file)


def _commands(paths: Sequence[Path], runs: Sequence[RunFolder], content: bytes) -> None:
    """Run the commands that look at a run folder; fail as they do."""
    path, changed = _numbered(content, paths)
    found: GraceError | None = None
    with _in_place(path, changed, runs):
        for command in (results.validate, results.status, results.summarise):
            heard = io.StringIO()
            try:
                with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                    command(path.parent)
            except typer.Exit as done:
                if done.exit_code == 1:
                    found = _Faulty(heard.getvalue()[-100_000:])
            except GraceError as error:
                found = found or error
            if len(heard.getvalue()) > 300_000:
                raise Broken(f"{command.__name__} prints {len(heard.getvalue()):,} characters")
    if found is not None:
        raise found


def _unchanged(paths: Sequence[Path], content: bytes, _read: object) -> None:
    path, changed = _numbered(content, paths)
    if path.read_bytes() != changed:
        raise Broken(f"{path.name} was changed, and nobody noticed")


def _journal(folder: Path, content: bytes) -> JournalState:
    folder.mkdir(exist_ok=True)
    (folder / "respond-0001.jsonl").write_bytes(content)
    state = read_journal(folder)
    for key in state.records:
        encode(state.records[key])
    return state


def _same_lines(content: bytes, read: object) -> None:
    if not isinstance(read, JournalState):
        raise Broken("no journal was read")
    lines = content.split(b"\n")[:-1]
    if read.lines != len(lines):
        raise Broken(f"{len(lines)} lines are whole, {read.lines} were read")
    told = {json.dumps(json.loads(line), sort_keys=True) for line in lines}
    for record in read.records.values():
        if json.dumps(json.loads(encode(record)), sort_keys=True) not in told:
            raise Broken("a record is not what its line says")


def _values(runs: Sequence[RunFolder], paths: Sequence[Path], content: bytes) -> None:
    """Make the tables from a changed journal, as `grace resume` does."""
    path, changed = _numbered(content, paths)
    folder = next(run for run in runs if run.path in path.parents)
    with _in_place(path, changed, runs):
        record = folder.read_record()
        records = read_journal(folder.journal).records
        for trials in reopen(folder, record).inputs:
            if folder.experiment == "exp2":
                plan = plan_scores(trials)
                query_counts(score_keys(plan), records)
                scored = score_all(plan, records)
                _made(score_table(plan, scored))
                _made(probability_table(plan, scored))
                continue
            asked = plan_responses(trials, seed=1, replicates=1, deterministic=False)
            query_counts(response_keys(asked), records)
            _made(response_table(asked, records, "toy"))
            texts = row_texts(asked, records)
            rows = extract_rows(trials.study, texts, records, "rules", rules_first=True)
            _made(structured_table(asked, records, rows, "toy"))


def _made(table: Table) -> None:
    """Make all rows of a table, which are made only as they are read."""
    for _ in table.rows:
        pass


@dataclass(frozen=True, slots=True)
class _Line:
    """Changes to one line of a journal, in its value or anywhere."""

    place: int
    changes: Sequence[JsonChange]
    in_value: bool
    kind: str

    def made(self, content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        at = self.place % len(lines)
        if self.kind != "change":
            more = {"drop": [], "twice": [lines[at]] * 2, "last": [lines[at][:-1]]}[self.kind]
            return b"".join([*lines[:at], *more, *lines[at + 1 :]])
        record = json.loads(lines[at])
        for change in self.changes:
            if self.in_value and isinstance(record, dict) and isinstance(record.get("value"), dict):
                record = {**record, "value": change.made(record["value"])}
            else:
                record = change.made(record)
        return b"".join([*lines[:at], written(record) + b"\n", *lines[at + 1 :]])


def _line_changes() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    lines = st.builds(
        _Line,
        st.integers(0, 500),
        st.lists(json_changes(), min_size=1, max_size=2),
        st.booleans(),
        st.sampled_from(["change"] * 7 + ["drop", "twice", "last"]),
    )
    return lines.map(lambda one: one.made)


def _changed_lines(contents: Sequence[bytes]) -> st.SearchStrategy[Callable[[], bytes]]:
    return st.builds(
        lambda content, change: partial(change, content), st.sampled_from(contents), _line_changes()
    )


_NUMBERS = (
    *("", "0", "1", "-0", "1e308", "-1e308", "1e999", "-1e999", "nan", "inf", "-inf", "1_0", " 1"),
    *("0x1", "9" * 400, "9" * 5_000, "-" + "9" * 5_000, "1e-999", "-1000", "-745.2", "710", "0.5"),
    *("\u0663", "\uff11", "yes", "no", "answered", "failed", "not_asked", "ok:rules", "x: y; z"),
)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One changed cell of a table, or a changed shape."""

    kind: str
    row: int
    column: int
    text: str

    def made(self, content: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        at = 0 if self.kind == "header" else self.row % len(rows)
        row = list(rows[at])
        column = self.column % len(row)
        match self.kind:
            case "cell" | "header":
                row[column] = self.text
            case "column":
                for other in rows[1:]:
                    other[column] = self.text
                row = rows[at]
            case "drop":
                row = row[:column] + row[column + 1 :]
            case "gone":
                rows = [one[:column] + one[column + 1 :] for one in rows]
                row = rows[at]
            case _:
                pass
        rows[at] = row
        if self.kind == "swap":
            rows[at], rows[self.column % len(rows)] = rows[self.column % len(rows)], rows[at]
        made = io.StringIO(newline="")
        csv.writer(made, lineterminator="\n").writerows(rows)
        return made.getvalue().encode()


def _cells() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    cells = st.builds(
        _Cell,
        st.sampled_from(["cell"] * 6 + ["column"] * 3 + ["header", "drop", "gone", "swap"]),
        st.integers(0, 300),
        st.integers(0, 300),
        st.sampled_from([*_NUMBERS, *CELLS]) | st.text(max_size=5),
    )
    return cells.map(lambda one: one.made)
