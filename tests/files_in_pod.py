"""What stands for `grace files` in tests: a program with the same interface, and its pods."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from grace.errors import ClusterUnavailable

PROGRAM = """
import hashlib, json, os, sys
from pathlib import Path

def listed(root):
    for path in sorted(Path(root).rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            yield {"path": str(path.relative_to(root)), "size": len(data),
                   "sha256": hashlib.sha256(data).hexdigest()}

name, place, *flags = sys.argv[1:]
given = dict(zip(flags[::2], flags[1::2]))
if name == "list":
    for line in listed(place):
        print(json.dumps(line))
elif name == "send":
    with open(place, "rb") as stream:
        stream.seek(int(given["--offset"]))
        data = stream.read(int(given["--length"]))
    sys.stdout.buffer.write(data)
    if "TELLS" in os.environ:
        print(json.dumps({"sha256": hashlib.sha256(data).hexdigest()}), file=sys.stderr)
elif name == "receive":
    data = sys.stdin.buffer.read()
    if hashlib.sha256(data).hexdigest() != given["--sha256"]:
        sys.exit("error: what arrived is not what was sent")
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place + ".part").write_bytes(data)
    os.replace(place + ".part", place)
"""


@dataclass
class Ended:
    exit_code: int
    stderr: str


Fault = Callable[["Running", bytes], bytes]
"""Changes what a command gives: it may drop, change or end it."""


@dataclass
class Running:
    process: asyncio.subprocess.Process
    arguments: tuple[str, ...]
    fault: Fault
    ended: Ended | None = None
    given: int = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        while block := await self.process.stdout.read(1000):
            if changed := self.fault(self, block):
                self.given += len(changed)
                yield changed
        stderr = (await self.process.stderr.read()).decode()
        code = await self.process.wait()
        self.ended = Ended(code if code >= 0 else 128 - code, stderr)


def unchanged(_running: Running, block: bytes) -> bytes:
    return block


@dataclass
class LocalPod:
    """
    A pod whose disk is a folder here; every command is a real process.

    Attributes:
        root: What the pod calls `/`.

        faults: One for each command, in the order in which they begin; then none.

        tells: Whether the hash of each part is told.

        asked: The arguments of every command.
    """

    root: Path
    faults: list[Fault] = field(default_factory=list)
    tells: bool = False
    asked: list[tuple[str, ...]] = field(default_factory=list)

    @asynccontextmanager
    async def running(
        self, command: Sequence[str], stdin: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[Running]:
        assert list(command[:2]) == ["grace", "files"]
        name, place, *flags = command[2:]
        self.asked.append((name, place, *flags))
        fault = self.faults.pop(0) if self.faults else unchanged
        here = str(self.root / place.lstrip("/"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", PROGRAM, name, here, *flags),
            env={"TELLS": "1"} if self.tells else {},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        try:
            if stdin is not None:
                async for block in stdin:
                    process.stdin.write(block)
            process.stdin.close()
            yield Running(process, (name, place, *flags), fault)
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
    """Kill the process that sends after so many bytes, as a pod that is taken away."""

    def fault(running: Running, block: bytes) -> bytes:
        if running.given >= count:
            if running.process.returncode is None:
                running.process.kill()
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
