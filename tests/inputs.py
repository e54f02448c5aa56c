"""Small inputs of both studies, as users write them."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from grace.studies.make import make_rows

ODD_CELL = ' 007, "quoted"\r\nand\rbroken\n\u2028é '
"""A participant that shows whether cells are kept as they are."""


def write_inputs(folder: Path) -> dict[str, Path]:
    """Write four rows of each study: two show the same stimulus, `speach` is spelled so."""
    paths = {}
    for study, participant in (("study1", "participant_id"), ("study2", "Participant_ID")):
        rows = make_rows(study, 3, 1)
        rows += [{**rows[0], participant: ODD_CELL}]
        text = io.StringIO(newline="")
        spelled = {"speech": "speach", "speechQ": "speachQ"}
        csv.writer(text, lineterminator="\n").writerow(spelled.get(name, name) for name in rows[0])
        # Python 3.11 leaves a lone carriage return unquoted, unless everything is quoted.
        quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        quoting.writerows(row.values() for row in rows)
        paths[study] = folder / f"{study}.csv"
        paths[study].write_bytes(text.getvalue().encode())
    return paths


def input_flags(inputs: Mapping[str, Path]) -> list[str]:
    """Return the flags that give these inputs."""
    return [flag for key, path in inputs.items() for flag in ("--input", f"{key}={path}")]
