"""Where JSON lines go: to standard output, and to a file of this process's own."""

import contextlib
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from grace.catalogue.store import size_text
from grace.engine.disk import numbered
from grace.engine.events import RunHook

_ODD = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST_PART = 60
_LONGEST_WAIT_SECONDS = 1.0


class Lines:
    """Writes lines, each at once; use it in a `with` block."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._writing = threading.Lock()

    def __enter__(self) -> "Lines":
        """Write to standard output only, for now."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def copy_to(self, folder: Path, parts: Iterable[str]) -> str | None:
        """
        Write all that follows to a new file as well.

        Args:
            folder: Where; made if missing.

            parts: What names the file; none is written by two processes.

        Returns:
            Why that cannot be; None if it can.
        """
        named = [_ODD.sub("-", part)[:_LONGEST_PART] for part in parts if part]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in numbered(folder, "_".join(named)):
                with contextlib.suppress(FileExistsError):
                    self._file = path.open("x", encoding="ascii", buffering=1)
                    return None
        except OSError as error:
            return f"{folder}: no log can be kept there: {error.strerror}"
        return None

    def write(self, line: str) -> None:
        """Write a line. Where it cannot be written it is lost: the work matters more."""
        # Whoever ends the process must not wait for another thread's line.
        held = self._writing.acquire(timeout=_LONGEST_WAIT_SECONDS)
        try:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            if self._file is not None:
                with contextlib.suppress(OSError, ValueError):
                    self._file.write(line + "\n")
        finally:
            if held:
                self._writing.release()


class ToldProgress:
    """Tells of the fetching of weights as a run's messages."""

    def __init__(self, hook: RunHook) -> None:
        self._hook = hook

    def began(self, step: str, total_bytes: int | None) -> None:
        """Tell what begins."""
        size = "" if total_bytes is None else f" ({size_text(total_bytes)})"
        self._hook.message(f"{step}{size}")

    def advanced(self, count_bytes: int) -> None:
        """Tell nothing: a log is no place for a bar."""

    def noted(self, message: str) -> None:
        """Tell it."""
        self._hook.message(message)
