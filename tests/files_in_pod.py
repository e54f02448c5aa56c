"""What stands for `grace files` in tests: a program with the same interface, and its pods."""

import asyncio
import hashlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grace.errors import ClusterUnavailable

# In a module of its own it would need no tests' folder on a path: it is given to `python -c`.
PROGRAM = """
import hashlib, json, os, sys
from pathlib import Path

def files(name, place, *flags, stdin=b""):
    given = dict(zip(flags[::2], flags[1::2]))
    if name == "list":
        return listed(Path(place)), ""
    if name == "send":
        with open(place, "rb") as stream:
            stream.seek(int(given["--offset"]))
            data = stream.read(int(given["--length"]))
        return data, ""
    if hashlib.sha256(stdin).hexdigest() != given["--sha256"]:
        raise ValueError("what arrived is not what was sent")
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place + ".part").write_bytes(stdin)
    os.replace(place + ".part", place)
    return b"", ""

def listed(root):
    if not root.is_dir():
        raise OSError(2, "No such file or directory", str(root))
    lines = b""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            line = {"path": str(path.relative_to(root)), "size": len(data), "sha256": digest}
            lines += json.dumps(line).encode() + b"\\n"
    return lines
"""

_MAIN = """
given = sys.stdin.buffer.read() if sys.argv[1] == "receive" else b""
output, said = files(*sys.argv[1:], stdin=given)
sys.stdout.buffer.write(output)
sys.stderr.write(said)
"""
_BLOCK = 1000

_COMMAND = (
    ("-m", "grace", "files")
    if importlib.util.find_spec("grace.cli.files") is not None
    else ("-c", PROGRAM + _MAIN)
)

_module: dict[str, Any] = {}
exec(PROGRAM, _module)  # noqa: S102 -- the same program, without a process


@dataclass
class Ended:
    exit_code: int
    stderr: str


_Started = tuple[AsyncIterator[bytes], Callable[[], Awaitable[Ended]]]
Fault = Callable[["Running", bytes], bytes]
"""Changes what a command gives: it may drop, change or end it."""


@dataclass
class Running:
    """A command at work; a fault may change what it gives, or kill it."""

    output: AsyncIterator[bytes]
    arguments: tuple[str, ...]
    fault: Fault
    end: Callable[[], Awaitable[Ended]]
    ended: Ended | None = None
    given: int = 0
    killed: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self.output:
            if changed := self.fault(self, block):
                self.given += len(changed)
                yield changed
            if self.killed:
                break
        self.ended = Ended(137, "") if self.killed else await self.end()


def unchanged(_running: Running, block: bytes) -> bytes:
    return block


def handed_over(root: Path, command: Sequence[str], stdin: bytes) -> tuple[bytes, str, int]:
    """Return output, words and exit code of `grace files ...` in a pod whose disk is a folder."""
    assert list(command[:2]) == ["grace", "files"]
    name, place, *flags = command[2:]
    try:
        output, said = _module["files"](name, str(root / place.lstrip("/")), *flags, stdin=stdin)
    except (OSError, ValueError) as error:
        return b"", f"error: {error}", 1
    return output, said, 0


@dataclass
class LocalPod:
    """
    A pod whose disk is a folder here.

    Attributes:
        root: What the pod calls `/`.

        faults: One for each command, in the order in which they begin; then none.

        processes: Whether every command is a process, as in a pod.

        asked: The arguments of every command.
    """

    root: Path
    faults: list[Fault] = field(default_factory=list)
    processes: bool = False
    asked: list[tuple[str, ...]] = field(default_factory=list)

    @asynccontextmanager
    async def running(
        self, command: Sequence[str], stdin: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[Running]:
        assert list(command[:2]) == ["grace", "files"]
        name, place, *flags = command[2:]
        self.asked.append((name, place, *flags))
        fault = self.faults.pop(0) if self.faults else unchanged
        here = (name, str(self.root / place.lstrip("/")), *flags)
        given = b"".join([block async for block in stdin]) if stdin is not None else b""
        way = self._in_process if self.processes else self._here
        async with way(here, given) as (output, end):
            yield Running(output, (name, place, *flags), fault, end)

    @asynccontextmanager
    async def _here(self, arguments: tuple[str, ...], stdin: bytes) -> AsyncIterator[_Started]:
        try:
            output, said = _module["files"](*arguments, stdin=stdin)
            ended = Ended(0, said)
        except (OSError, ValueError) as error:
            output, ended = b"", Ended(1, f"error: {error}")

        async def blocks() -> AsyncIterator[bytes]:
            for start in range(0, len(output), _BLOCK):
                # Others may go on meanwhile, as on a network.
                await asyncio.sleep(0)
                yield output[start : start + _BLOCK]

        async def end() -> Ended:
            return ended

        yield blocks(), end

    @asynccontextmanager
    async def _in_process(
        self, arguments: tuple[str, ...], stdin: bytes
    ) -> AsyncIterator[_Started]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *_COMMAND, *arguments),
            env={"PYTHONPATH": ":".join(sys.path)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdin_pipe, stdout, stderr = process.stdin, process.stdout, process.stderr
        assert stdin_pipe is not None
        assert stdout is not None
        assert stderr is not None

        async def blocks() -> AsyncIterator[bytes]:
            while block := await stdout.read(_BLOCK):
                yield block

        async def end() -> Ended:
            said = (await stderr.read()).decode()
            code = await process.wait()
            return Ended(code if code >= 0 else 128 - code, said)

        try:
            stdin_pipe.write(stdin)
            stdin_pipe.close()
            yield blocks(), end
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            # Its pipes are closed with it, not at some later moment.
            process._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way


def cut_after(count: int) -> Fault:
    """Break the connection after so many bytes."""

    def fault(running: Running, block: bytes) -> bytes:
        if running.given >= count:
            raise ClusterUnavailable("the connection broke off")
        return block[: count - running.given]

    return fault


def killed_after(count: int) -> Fault:
    """Kill what sends after so many bytes, as a pod that is taken away."""

    def fault(running: Running, block: bytes) -> bytes:
        if running.given >= count:
            running.killed = True
            return b""
        return block[: count - running.given]

    return fault


def ends_early(running: Running, block: bytes) -> bytes:
    """Lose everything behind the first bytes, and still end well."""
    return block[: max(10 - running.given, 0)]


def spoilt(running: Running, block: bytes) -> bytes:
    """Change a byte."""
    return bytes([block[0] ^ 1]) + block[1:] if running.given == 0 else block


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
