"""
The audit copy: every prompt as it was sent, once each, for those who ask for it.

Journals keep the hash of a prompt, never its text, since prompts may hold what
participants wrote. With `--audit` the texts are kept as well, one JSON line for
each hash, before the prompt is sent for the first time. As in the journal, a
line is written once, each process has files of its own, and a torn last line is
what a kill leaves: its prompt has no answer yet, and is written again.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from grace.engine.disk import numbered
from grace.errors import (
    BadReply,
    CorruptJournal,
    QueryRejected,
    RunFolderError,
    UnsupportedByServer,
)
from grace.inference.client import InferenceClient, Rendered
from grace.studies.prompts import Prompt

_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class AuditedPrompt:
    """
    One prompt.

    Attributes:
        prompt_sha256: Its hash, as records have it.

        stage, probe: What it was first sent for.

        messages: The chat, as pairs of role and content; None for plain text.

        text: The plain text; None for a chat.

        answer_prefix: What the model's answer begins behind, if anything.

        rendered: The whole text as the model sees it, with special tokens; None
            where the server does not show it, or may be sent no answer prefix.

        token_ids: Its tokens; None in the same cases.
    """

    prompt_sha256: str
    stage: str
    probe: str
    messages: list[list[str]] | None
    text: str | None
    answer_prefix: str
    rendered: str | None
    token_ids: list[int] | None


class Audit:
    """
    Writes prompts down before they are sent; use it in a `with` block.

    Args:
        folder: The run's `audit` folder; made if missing.

        stage: Begins the file's name.

        shard: Follows it, where several processes share the stage; else "".

    Raises:
        RunFolderError: A file cannot be read, made or written (a full disk).
    """

    def __init__(self, folder: Path, stage: str, shard: str = "") -> None:
        self._folder = folder
        self._stage = stage
        self._name = f"{stage}-{shard}" if shard else stage
        self._known = audited(folder)
        self._file: IO[bytes] | None = None
        self._path = folder
        self._writing: dict[str, asyncio.Lock] = {}

    def __enter__(self) -> Self:
        """Make nothing yet: a stage may have nothing to ask."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Sync and close."""
        if self._file is None:
            return
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as failure:
            if error is None:
                raise _not_written(self._path, failure) from failure
        finally:
            self._file = None

    async def note(
        self,
        client: InferenceClient,
        prompt: Prompt,
        probe: str,
        token_ids: tuple[int, ...] | None = None,
    ) -> None:
        """
        Write a prompt down if it is new.

        Args:
            client: Renders it.

            prompt: The prompt.

            probe: What it is sent for, for people.

            token_ids: The tokens that are sent; None if the client renders the
                prompt itself.

        Raises:
            ServerUnavailable: The server does not answer.

            RunFolderError: The disk is full or gone.
        """
        sha256 = prompt.sha256()
        async with self._writing.setdefault(sha256, asyncio.Lock()):
            if sha256 not in self._known:
                # Some servers are sent a chat's messages without the prefix: see the dialects.
                unsure = token_ids is None and bool(prompt.answer_prefix)
                rendered = None if unsure else await _rendered(client, prompt)
                if token_ids is not None and (rendered is None or rendered.token_ids != token_ids):
                    # The tokens are what was sent; another rendering's text is not.
                    rendered = Rendered("", token_ids)
                self._append(_audited(prompt, self._stage, probe, rendered))
                self._known.add(sha256)
        self._writing.pop(sha256, None)

    def _append(self, one: AuditedPrompt) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(_ENCODER.encode(asdict(one)).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise _not_written(self._path, error) from error

    def _open(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        paths = numbered(self._folder, self._name)
        while True:
            self._path = next(paths)
            with suppress(FileExistsError):
                return self._path.open("xb")


def read_audit(folder: Path) -> Iterator[AuditedPrompt]:
    """
    Read the prompts of a run, in the order in which they were first sent.

    Args:
        folder: The run's `audit` folder; it may not exist.

    Raises:
        CorruptJournal: A line that is not the torn end of a file is no prompt.

        RunFolderError: A file cannot be read.
    """
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.endswith(b"\n"):
                        yield _parse(line, path, number)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error


def audited(folder: Path) -> set[str]:
    """
    Return the hashes of the prompts that were written down.

    Raises:
        CorruptJournal, RunFolderError: See `read_audit`.
    """
    return {one.prompt_sha256 for one in read_audit(folder)}


def _parse(line: bytes, path: Path, number: int) -> AuditedPrompt:
    try:
        return AuditedPrompt(**json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptJournal(
            f"{path}, line {number}: is not a line of an audit copy; something else wrote to this "
            "file. Restore it, or start another run with --new"
        ) from error


async def _rendered(client: InferenceClient, prompt: Prompt) -> Rendered | None:
    if not client.capabilities.token_ids:
        return None
    try:
        return await client.render(prompt)
    except (QueryRejected, BadReply, UnsupportedByServer):
        # The query itself will say what is wrong with it.
        return None


def _audited(prompt: Prompt, stage: str, probe: str, rendered: Rendered | None) -> AuditedPrompt:
    return AuditedPrompt(
        prompt_sha256=prompt.sha256(),
        stage=stage,
        probe=probe,
        messages=[[one.role, one.content] for one in prompt.messages] or None,
        text=None if prompt.messages else prompt.text,
        answer_prefix=prompt.answer_prefix,
        rendered=(rendered.text or None) if rendered is not None else None,
        token_ids=list(rendered.token_ids) if rendered is not None else None,
    )


def _not_written(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path}: cannot be written: {error.strerror}; what was finished is kept: make room and "
        "give the same command again"
    )
