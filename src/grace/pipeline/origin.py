"""
Runs that came from a cluster: by what they are known, and what goes on with them.

A pod records where its results were, which no path on another machine is. The
namespace is in no pod's record: who collects a run notes it beside its inputs.
"""

import json
import shlex
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from grace.errors import RunFolderError
from grace.pipeline.reopen import input_copies
from grace.runs.csvfile import write_bytes
from grace.runs.folder import RunFolder, RunRecord, read_json

POD_RESULTS = PurePosixPath("/grace/results")
"""Where pods keep run folders."""

ORIGIN_FILE = "cluster.json"


class Origin(BaseModel):
    """
    Where runs came from.

    Attributes:
        namespace: Of the cluster.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # It becomes part of a command that people type.
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


def write_origin(out: Path, timestamp: str, origin: Origin) -> None:
    """
    Note where the runs of a timestamp came from.

    Args:
        out: The folder with all run folders.

        timestamp: The runs' name.

        origin: Where from.

    Raises:
        RunFolderError: It cannot be written.
    """
    content = json.dumps(origin.model_dump(mode="json")).encode() + b"\n"
    path = input_copies(out, timestamp) / ORIGIN_FILE
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


def cluster_command(folder: RunFolder, record: RunRecord) -> str:
    """
    Return what goes on with a run on the cluster that it came from; empty if it came from none.

    Args:
        folder: The run.

        record: Its `run.json`.
    """
    place = folder.path.resolve().parents[2]
    if record.request.out != Path(POD_RESULTS) or place == Path(POD_RESULTS):
        return ""
    shown = folder.path.parents[2] if len(folder.path.parents) > 2 else place
    words = [
        "grace",
        "cluster",
        "resume",
        folder.timestamp,
        "--namespace",
        _namespace(folder, place),
    ]
    if shown != Path("results"):
        words += ["--out", str(shown)]
    return shlex.join(words)


def _namespace(folder: RunFolder, place: Path) -> str:
    try:
        path = input_copies(place, folder.timestamp) / ORIGIN_FILE
        return read_json(path, Origin).namespace
    except (FileNotFoundError, RunFolderError):
        # Moved without what was beside it: who types the command knows.
        return "NAMESPACE"
