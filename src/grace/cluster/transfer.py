"""
Files between pods and this machine: in parts, resumed at the byte, verified on both sides.

What runs in the pod is `grace files`. A connection may break, a pod may be killed
and come back as another, a byte may be wrong: parts that arrived are kept, the
rest is asked for again, and a file takes its name only when its SHA-256 is the
one that the pod's own disk gave. Knows nothing of runs or of Kubernetes.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from grace.catalogue.faults import shown
from grace.engine.disk import make_folder
from grace.errors import ClusterError, ClusterUnavailable

PART_BYTES = 32 * 1024 * 1024
_BLOCK = 1024 * 1024
_SHOWN = 300
_SIGNALLED = 128
# As the pod's system says it.
_MISSING = "No such file or directory"

_T = TypeVar("_T")


class Ended(Protocol):
    """How a command ended."""

    @property
    def exit_code(self) -> int:
        """Its own; 137 and the like if it was killed."""
        ...

    @property
    def stderr(self) -> str:
        """What it wrote there, perhaps cut."""
        ...


class RunningCommand(Protocol):
    """A command at work in a pod; its output is read by iterating."""

    @property
    def ended(self) -> Ended | None:
        """How it ended; None until all output was read."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the output as it arrives; `ClusterUnavailable` if the connection breaks."""
        ...


class PodExec(Protocol):
    """Runs commands in one pod."""

    def running(
        self, command: Sequence[str], stdin: AsyncIterator[bytes] | None = None
    ) -> AbstractAsyncContextManager[RunningCommand]:
        """Start a command; its input is closed when *stdin* ends."""
        ...


class RemoteFile(BaseModel):
    """
    A file as the pod sees it.

    Attributes:
        path: Below the folder that was listed.

        size: In bytes.

        sha256: Of its bytes.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: Annotated[str, Field(min_length=1)]
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How often what broke is tried again.

    Attributes:
        attempts: In a row without a byte of progress.

        first_wait_seconds: Before the second; it doubles.

        longest_wait_seconds: Between two.

        wait: How time is spent; a test gives its own.
    """

    attempts: int = 8
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 15
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def after(self, failures: int) -> None:
        """Wait as long as suits so many failures in a row."""
        await self.wait(
            min(self.first_wait_seconds * 2.0 ** (failures - 1), self.longest_wait_seconds)
        )


def silent(_count: int) -> None:
    """Say nothing of progress."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """
    Moves files between one pod and this machine.

    Attributes:
        pod: Runs commands there.

        patience: How often what broke is tried again.

        part_bytes: The most that one command sends.

        advanced: Hears how many bytes arrived; a negative number takes some back.
    """

    pod: PodExec
    patience: Patience = Patience()
    part_bytes: int = PART_BYTES
    advanced: Callable[[int], None] = silent

    async def listing(self, root: PurePosixPath) -> tuple[RemoteFile, ...]:
        """
        List the files below a folder of the pod, with their hashes; none if there is no folder.

        Raises:
            ClusterError: The folder cannot be read, or the list is not one.

            ClusterUnavailable: The pod could not be reached, however often.
        """

        async def once() -> tuple[RemoteFile, ...]:
            try:
                output = b"".join([block async for block in self._output("list", str(root))])
            except ClusterUnavailable:
                raise
            except ClusterError as error:
                if _MISSING in str(error):
                    return ()
                raise
            if output and not output.endswith(b"\n"):
                raise ClusterUnavailable(f"the list of {root} is cut off")
            return tuple(_listed(line, root) for line in output.splitlines() if line.strip())

        return await self._patiently(once)

    async def fetch(self, root: PurePosixPath, file: RemoteFile, draft: Path) -> bool:
        """
        Bring a file's bytes into a draft on this machine, verified and on the disk.

        Args:
            root: The folder that was listed.

            file: The file.

            draft: Where the bytes go; what it holds already is taken for the
                file's beginning, and given up if that turns out to be wrong.

        Returns:
            Whether the file is what the list says; if not, also when it is
            fetched from its beginning, there is no draft.

        Raises:
            ClusterError: The pod cannot read it.

            ClusterUnavailable: It could not be reached, however often.

            OSError: The draft cannot be written.
        """
        make_folder(draft.parent)
        for _ in range(2):
            if await self._whole(root, file, draft) == file.sha256:
                return True
            self.advanced(-_dropped(draft))
        return False

    async def send(self, content: bytes, target: PurePosixPath) -> None:
        """
        Write a file in the pod, verified there before it takes its name.

        Raises:
            ClusterError: The pod cannot write it.

            ClusterUnavailable: The pod could not be reached, however often.
        """
        digest = hashlib.sha256(content).hexdigest()

        async def once() -> None:
            async for _ in self._output(
                "receive", str(target), "--sha256", digest, stdin=_blocks(content)
            ):
                pass

        await self._patiently(once)
        self.advanced(len(content))

    async def _whole(self, root: PurePosixPath, file: RemoteFile, draft: Path) -> str:
        """Append to a draft what it lacks, and return the hash of what is then on the disk."""
        _bounded(draft, file.size)
        with draft.open("ab") as stream:
            self.advanced(stream.tell())
            failures = 0
            while (start := stream.tell()) < file.size:
                try:
                    await self._part(root / file.path, file.size - start, stream)
                except ClusterUnavailable:
                    failures = 1 if stream.tell() > start else failures + 1
                    if failures >= self.patience.attempts:
                        raise
                    await self.patience.after(failures)
            stream.flush()
            os.fsync(stream.fileno())
        return await asyncio.to_thread(file_sha256, draft)

    async def _part(self, path: PurePosixPath, left: int, stream: BinaryIO) -> None:
        """Append the next part of a file; what arrived before a fault stays."""
        start, length = stream.tell(), min(self.part_bytes, left)
        digest = hashlib.sha256()
        asked = ("send", str(path), "--offset", str(start), "--length", str(length))
        told = ""
        async with self._running(*asked) as command:
            async for block in command:
                if stream.tell() + len(block) > start + length:
                    raise ClusterError(f"{path}: the pod sent more than {length:,} bytes")
                stream.write(block)
                digest.update(block)
                self.advanced(len(block))
            told = _succeeded(command, asked)
        if stream.tell() < start + length:
            raise ClusterUnavailable(f"{path}: the pod sent only a part of what was asked for")
        if (sent := _sent_sha256(told)) is not None and sent != digest.hexdigest():
            # Nothing of this part can be trusted.
            stream.truncate(start)
            stream.seek(start)
            self.advanced(-length)
            raise ClusterUnavailable(f"{path}: a part was spoilt on the way")

    async def _output(
        self, *arguments: str, stdin: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[bytes]:
        async with self._running(*arguments, stdin=stdin) as command:
            async for block in command:
                yield block
            _succeeded(command, arguments)

    def _running(
        self, *arguments: str, stdin: AsyncIterator[bytes] | None = None
    ) -> AbstractAsyncContextManager[RunningCommand]:
        return self.pod.running(("grace", "files", *arguments), stdin)

    async def _patiently(self, once: Callable[[], Awaitable[_T]]) -> _T:
        failures = 0
        while True:
            try:
                return await once()
            except ClusterUnavailable:
                failures += 1
                if failures >= self.patience.attempts:
                    raise
                await self.patience.after(failures)


def _dropped(draft: Path) -> int:
    """Remove a draft, and return how many bytes it had."""
    size = draft.stat().st_size
    draft.unlink()
    return size


def _bounded(draft: Path, size: int) -> None:
    """Remove a draft that is too long to be the beginning of a file of that size."""
    if draft.exists() and draft.stat().st_size > size:
        draft.unlink()


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _succeeded(command: RunningCommand, arguments: Sequence[str]) -> str:
    """Return what a command that ended well said; raise what another one means."""
    doing = f"grace files {arguments[0]} {arguments[1]}"
    ended = command.ended
    if ended is None:
        raise ClusterUnavailable(f"{doing}: the connection broke off")
    if ended.exit_code == 0:
        return ended.stderr
    said = " ".join(ended.stderr.split())[-_SHOWN:]
    message = f"{doing}: exit code {ended.exit_code} in the pod: {said or 'it said nothing'}"
    # Killed by a signal: by memory, a drained node, or the pod's end.
    raise ClusterUnavailable(message) if ended.exit_code >= _SIGNALLED else ClusterError(message)


def _listed(line: bytes, root: PurePosixPath) -> RemoteFile:
    try:
        file = RemoteFile.model_validate_json(line)
    except ValidationError as error:
        raise ClusterError(
            f"the list of {root} has a line that is none: {shown(line.decode(errors='replace'))}"
        ) from error
    parts = PurePosixPath(file.path).parts
    if not parts or PurePosixPath(file.path).is_absolute() or ".." in parts or "\0" in file.path:
        # What a pod says must not lead out of the folder that the user named.
        raise ClusterError(f"the list of {root} names {shown(file.path)}, which is not below it")
    return file


def _sent_sha256(said: str) -> str | None:
    """Return the hash that the pod computed of the bytes that it sent, if it tells."""
    for line in reversed(said.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("sha256"), str):
            return str(found["sha256"])
    return None


async def _blocks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _BLOCK):
        yield content[start : start + _BLOCK]
