"""
One file over HTTP, resumed where it stopped, even after a kill.

Bytes go to `{file}.part` as they arrive. A later call hashes what is there and
asks for the rest by a Range request; only a complete file with the right hash
gets its name. Knows nothing of packages or models, and keeps addresses out of
its messages: they may be private.
"""

import hashlib
import http.client
import os
import ssl
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, OpenerDirector, Request, build_opener

import stamina

from grace.catalogue.progress import ProgressHook
from grace.catalogue.store import CHUNK_BYTES, require_room
from grace.errors import WeightsError

ATTEMPTS: Final = 8
_STALL_SECONDS = 60
_LONGEST_SECONDS = 6 * 3600
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_CERTIFICATE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_READ_BYTES = 1 << 18


class TransferRefused(Exception):
    """
    The server will not give the file in this way; asking again would not help.

    Args:
        reason: Why, without the address.
    """


class _Interrupted(Exception):
    """The transfer stopped; the rest can be asked for."""


class _Reply(Protocol):
    """What `urllib` returns: a reply with headers and a body."""

    status: int
    headers: http.client.HTTPMessage

    def read1(self, count: int) -> bytes: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Part:
    """
    What has arrived so far, and the hash of it.

    Attributes:
        path: The `.part` file.

        size_bytes: How much of it is there.

        digest: The running hash.

        fresh: Whether all of it came in this process.
    """

    path: Path
    size_bytes: int
    digest: "hashlib._Hash"
    fresh: bool

    @classmethod
    def open(cls, path: Path) -> "_Part":
        digest = hashlib.sha256()
        size = 0
        if path.exists():
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
        return cls(path, size, digest, fresh=size == 0)

    def restart(self) -> None:
        self.path.unlink(missing_ok=True)
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self.fresh = True


def download(
    url: str, destination: Path, *, sha256: str | None, label: str, progress: ProgressHook
) -> None:
    """
    Bring a file here, continuing what an earlier call began.

    Args:
        url: An http or https address.

        destination: Where the complete file goes; a file there is replaced.

        sha256: What the file must be; None if its source promises nothing.

        label: What messages call the file.

        progress: Hears of the bytes.

    Raises:
        WeightsError: The network or the file's hash failed, or there is no room.

        TransferRefused: The server refuses; another way may work.

        OSError: The disk failed.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise TransferRefused("the address is not http or https")
    opener = build_opener(HTTPSHandler(context=_certificates()))
    part = _Part.open(destination.with_name(destination.name + ".part"))
    if sha256 is None or part.digest.hexdigest() != sha256:
        _fetch(opener, url, part, label, progress)
        if sha256 is not None and part.digest.hexdigest() != sha256 and not part.fresh:
            progress.noted(f"{label}: what was here before does not fit; starting again")
            part.restart()
            _fetch(opener, url, part, label, progress)
    if sha256 is not None and part.digest.hexdigest() != sha256:
        found = part.digest.hexdigest()
        part.restart()
        raise WeightsError(
            f"{label}: has SHA-256 {found}; expected {sha256}; the file was changed at its "
            "source or on its way (a proxy?), and was removed"
        )
    part.path.replace(destination)


def _fetch(
    opener: OpenerDirector, url: str, part: _Part, label: str, progress: ProgressHook
) -> None:
    attempts = stamina.retry_context(
        on=_Interrupted, attempts=ATTEMPTS, timeout=_LONGEST_SECONDS, wait_initial=0.5, wait_max=30
    )
    try:
        for attempt in attempts:
            with attempt:
                _continue(opener, url, part, label, progress)
    except _Interrupted as error:
        raise WeightsError(
            f"{label}: the download stopped after {part.size_bytes:,} bytes ({error}); they are "
            "kept: run the same command again when the network is back"
        ) from error


def _continue(
    opener: OpenerDirector, url: str, part: _Part, label: str, progress: ProgressHook
) -> None:
    """Ask for what is missing and append it; return when the file is complete."""
    with closing(_ask(opener, url, part.size_bytes)) as reply:
        if reply.status != 206 and part.size_bytes:
            # The server does not know ranges: what it sends begins at the beginning.
            part.restart()
        total = _total_bytes(reply, part)
        if total is not None:
            require_room(part.path.parent, total - part.size_bytes)
        progress.began(f"downloading {label}", total)
        progress.advanced(part.size_bytes)
        with part.path.open("ab", buffering=0) as file:
            while chunk := _read(reply):
                file.write(chunk)
                part.digest.update(chunk)
                part.size_bytes += len(chunk)
                progress.advanced(len(chunk))
            os.fsync(file.fileno())
    if total is not None and part.size_bytes < total:
        raise _Interrupted(f"{total - part.size_bytes:,} bytes did not come")


def _ask(opener: OpenerDirector, url: str, offset: int) -> _Reply:
    # The scheme was checked; urllib follows redirects to http, https and ftp only.
    request = Request(url, headers={"Accept-Encoding": "identity"})  # noqa: S310
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        reply: _Reply = opener.open(request, timeout=_STALL_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == 416:
            # Nothing is left to send, or the part is longer than the file: both end in the
            # hash's verdict after a fresh start.
            return _ask(opener, url, 0)
        if error.code in _TRANSIENT:
            raise _Interrupted(f"HTTP {error.code}") from error
        raise TransferRefused(f"HTTP {error.code}") from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise TransferRefused("its certificate is not trusted") from error
        raise _Interrupted(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error
    return reply


def _read(reply: _Reply) -> bytes:
    try:
        return reply.read1(_READ_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error


def _total_bytes(reply: _Reply, part: _Part) -> int | None:
    """Return the size of the whole file; None if the server does not say."""
    if reply.status == 206:
        unit, _, described = reply.headers.get("Content-Range", "").partition(" ")
        span, _, total = described.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(part.size_bytes):
            part.restart()
            raise _Interrupted("the server sent another range than the one asked for")
        return int(total) if total.isdigit() else None
    length = reply.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _certificates() -> ssl.SSLContext:
    """Trust what the system trusts, and what the user told pip and its kin to trust."""
    context = ssl.create_default_context()
    for variable in _CERTIFICATE_VARIABLES:
        chosen = os.environ.get(variable)
        if chosen and Path(chosen).is_file():
            context.load_verify_locations(cafile=chosen)
    return context
