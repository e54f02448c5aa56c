"""Starts a hostile server in a process of its own, and tells it what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.request import Request, urlopen

from hostile.script import Rule, Script

_TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Hostile:
    """
    A running server.

    Attributes:
        url: Where it serves its model.

        control: Where it is told what to do.
    """

    url: str
    control: str

    def follow(self, *rules: Rule, seed: int = 1) -> None:
        """Be healthy again, then follow these rules."""
        script = Script(rules, seed).to_json().encode()
        with urlopen(Request(f"{self.control}/script", script, method="PUT"), timeout=30):  # noqa: S310
            pass

    def befell(self) -> dict[str, int]:
        """How often each fault was made since the last script."""
        with urlopen(f"{self.control}/befell", timeout=30) as reply:  # noqa: S310
            counts: dict[str, int] = json.load(reply)
            return counts


@contextmanager
def hostile_server(face: Literal["vllm", "llamacpp"] = "vllm") -> Iterator[Hostile]:
    """Run a hostile server for the length of a `with` block."""
    paths = [str(_TESTS), str(_TESTS.parent), str(_TESTS.parent / "src")]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "hostile.server", face],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        assert process.stdout is not None
        yield Hostile(**json.loads(process.stdout.readline()))
    finally:
        process.communicate(timeout=30)
