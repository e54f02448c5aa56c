"""
Weights from the Hugging Face hub, for those who have access to it.

The only module that imports `huggingface_hub`, which the extra `hub` brings. A
token is taken from HF_TOKEN or HF_TOKEN_FILE (or from `hf auth login`), another hub from
HF_ENDPOINT. Every file is compared with the hash that the hub states for it.
"""

import fnmatch
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from grace.catalogue.progress import ProgressHook
from grace.catalogue.sources import HubSource
from grace.catalogue.store import CHUNK_BYTES, Checked, VerifiedFile, check_file, require_room
from grace.errors import WeightsError
from grace.keys import hide_keys, read_key

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# What a server reads. Left out are the same weights in other formats (gpt2: seven of them), copies
# in subfolders (gpt-oss: 27 GB of them) and code: Grace runs none from a repository.
WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
_UNWANTED_FOLDERS = ("original/", "metal/", "onnx/")


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    """
    One file of a repository, as the hub states it.

    Attributes:
        path: Inside the repository.

        size_bytes: Its size.

        sha256: Its hash if it is a large file; otherwise empty.

        blob: Its git object id; empty if the hub does not say.
    """

    path: str
    size_bytes: int
    sha256: str
    blob: str


def resolve_revision(source: HubSource) -> str:
    """
    Return the commit that a source points to today.

    Raises:
        WeightsError: There is no access to the hub or to the repository.
    """
    with _hub_errors(source):
        commit = _api().model_info(source.repository, revision=source.revision).sha
    if commit is None:
        raise WeightsError(f"{source}: the hub names no commit; try again later")
    return commit


def fetch_repository(
    source: HubSource, commit: str, folder: Path, progress: ProgressHook
) -> Checked:
    """
    Bring the files of a source into a folder, resumed and verified.

    What is here already and sound is kept; what is not is fetched again.

    Args:
        source: The repository, or one file of it.

        commit: The commit to take.

        folder: Where they go.

        progress: Hears of the bytes.

    Returns:
        The folder, or the one file, with the hashes of all files.

    Raises:
        WeightsError: There is no access, no room, or a hash is wrong.

        OSError: The disk failed.
    """
    weights = folder / source.file if source.file else folder
    with _hub_errors(source):
        wanted = _wanted(source, _remote_files(source, commit))
        folder.mkdir(exist_ok=True)
        missing = sum(file.size_bytes for file in wanted if not _is_here(folder, file))
        require_room(folder, missing)
        return Checked(
            weights,
            tuple(_fetch(source, commit, file, weights, folder, progress) for file in wanted),
        )


def _fetch(
    source: HubSource,
    commit: str,
    file: _RemoteFile,
    weights: Path,
    folder: Path,
    progress: ProgressHook,
) -> VerifiedFile:
    path = folder / file.path
    if _is_here(folder, file):
        progress.began(f"checking {file.path}", file.size_bytes)
        kept = check_file(path, weights, progress)
        if _is_sound(path, kept, file):
            return kept
        path.unlink()
    progress.began(f"downloading {file.path}", file.size_bytes)
    _download(source, commit, file, folder, progress)
    progress.began(f"checking {file.path}", file.size_bytes)
    fetched = check_file(path, weights, progress)
    if not _is_sound(path, fetched, file):
        path.unlink()
        raise WeightsError(
            f"{path}: has SHA-256 {fetched.sha256}, which is not what the hub states; the file "
            "was removed: run the same command again"
        )
    return fetched


def _remote_files(source: HubSource, commit: str) -> list[_RemoteFile]:
    info = _api().model_info(source.repository, revision=commit, files_metadata=True)
    return [
        _RemoteFile(
            file.rfilename,
            file.size or 0,
            file.lfs.sha256 if file.lfs is not None else "",
            file.blob_id or "",
        )
        for file in info.siblings or ()
    ]


def _wanted(source: HubSource, files: list[_RemoteFile]) -> list[_RemoteFile]:
    if source.file:
        found = [file for file in files if file.path == source.file]
    elif source.patterns:
        found = [file for file in files if _matches(file.path, source.patterns)]
    else:
        found = [
            file
            for file in files
            if _matches(file.path, WANTED) and not file.path.startswith(_UNWANTED_FOLDERS)
        ]
    if not found:
        raise WeightsError(
            f"{source}: holds {len(files)} files, but none that is wanted "
            f"({source.file or ', '.join(source.patterns or WANTED)}); correct the entry's weights"
        )
    return found


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _is_here(folder: Path, file: _RemoteFile) -> bool:
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.size_bytes


def _download(
    source: HubSource, commit: str, file: _RemoteFile, folder: Path, progress: ProgressHook
) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(
        source.repository,
        file.path,
        revision=commit,
        local_dir=folder,
        endpoint=os.environ.get("HF_ENDPOINT"),
        token=read_key("HF_TOKEN"),
        tqdm_class=_forwarding_bar(progress.advanced),
    )


def _is_sound(path: Path, found: VerifiedFile, file: _RemoteFile) -> bool:
    """Compare a file with what the hub states: SHA-256 if it is large, git's object id if not."""
    if file.sha256:
        return found.sha256 == file.sha256
    return not file.blob or _git_blob(path) == file.blob


def _git_blob(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _forwarding_bar(advanced: Callable[[int], None]) -> Any:  # noqa: ANN401 (stands in for tqdm)
    """Return what the hub's library takes for a progress bar; it draws nothing, passes counts on."""

    class Bar:
        def __init__(self, *_args: object, **options: Any) -> None:  # noqa: ANN401
            self.n = 0
            self.total = options.get("total")
            # Two bars are made for one file on chunked storage; the network's is not counted.
            self._counted = "downloading bytes" not in str(options.get("desc", ""))
            self.update(options.get("initial") or 0)

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            if self._counted:
                advanced(int(count or 0))

        def set_postfix_str(self, *_args: object, **_options: object) -> None:
            """Ignore it."""

        def refresh(self) -> None:
            """Ignore it."""

        def close(self) -> None:
            """Ignore it."""

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None:
            self.close()

    return Bar


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=read_key("HF_TOKEN"))


@contextmanager
def _hub_errors(source: HubSource) -> Iterator[None]:
    """
    Say what to do about every way in which the hub can be out of reach.

    Raises:
        WeightsError: In all of them.
    """
    offline = (
        f"Where there is a network, run `hf download {source.repository} --local-dir FOLDER`, copy it "
        "here, and give it in a catalogue file of your own: weights: file:///FOLDER"
    )
    try:
        from httpx2 import HTTPError
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise WeightsError(
            f"{source}: needs the hub's library; install it: pip install 'grace[hub]'. {offline}"
        ) from error
    page = f"https://huggingface.co/{source.repository}"
    try:
        yield
    except GatedRepoError as error:
        raise WeightsError(
            f"{source}: is gated. Accept the licence at {page}, make a token there, and set "
            f"HF_TOKEN to it. {offline}"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"{source}: the hub shows no such repository; check the name in the catalogue, and "
            "set HF_TOKEN if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(
            f"{source}: has no revision {source.revision!r}; run `grace models lock` again"
        ) from error
    except OfflineModeIsEnabled as error:
        raise WeightsError(
            f"{source}: HF_HUB_OFFLINE is set; unset it to reach the hub. {offline}"
        ) from error
    except (HfHubHTTPError, EntryNotFoundError, HTTPError, ConnectionError) as error:
        reason = hide_keys((str(error).splitlines() or [type(error).__name__])[0])
        raise WeightsError(f"{source}: the hub cannot be reached ({reason}). {offline}") from error
