"""
List what is inside an image, as one CycloneDX document.

Runs inside the image, in the build of `sbom.Containerfile`: Python packages are
listed by cyclonedx-bom, Debian's by debsbom, and here the two are joined with
the interpreter and the weights. The same image always gives the same bytes.

usage: sbom.py TITLE VERSION OUT
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TOOLS = Path("tools/bin")
LOCKS = {"grace-runner": "runner.txt", "grace-cpu-server": "cpu-server.txt"}
_PINNED = re.compile(r"(?m)^([A-Za-z0-9._-]+)==(\S+)")
# What is there and in no lock: Grace itself.
_OWN = "grace"

Component = Mapping[str, Any]
Document = Mapping[str, Any]


def pinned(lock: str) -> set[tuple[str, str]]:
    r"""
    Return the names and versions that a requirement file allows.

    >>> sorted(pinned("a-b==1.0 ; python_version > '3'\n    --hash=sha256:00\nc==2"))
    [('a-b', '1.0'), ('c', '2')]
    """
    return {(normalised(name), version) for name, version in _PINNED.findall(lock)}


def normalised(name: str) -> str:
    """
    Return a package's name as indexes compare it.

    >>> normalised("ruamel.yaml")
    'ruamel-yaml'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def unlocked(components: Sequence[Component], lock: str) -> list[str]:
    """Return the Python packages that are in the image and not in its lock."""
    allowed = pinned(lock)
    return [
        f"{component['name']}=={component['version']}"
        for component in components
        if component["name"] != _OWN
        and (normalised(component["name"]), component["version"]) not in allowed
    ]


def joined(
    title: str,
    version: str,
    parts: Sequence[Document],
    others: Sequence[Component],
    properties: Mapping[str, str],
    timestamp: str,
) -> dict[str, Any]:
    """
    Join documents to one that has the image at its root.

    Args:
        title: The image's name.

        version: Its version.

        parts: CycloneDX documents.

        others: Components that no document has.

        properties: What else is known about the image.

        timestamp: ISO 8601.
    """
    root = {
        "type": "container",
        "bom-ref": f"{title}@{version}",
        "name": title,
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    components = [*others, *(each for part in parts for each in part["components"])]
    components.sort(key=lambda component: component["bom-ref"])
    # A document's own root, such as Debian's, says which of its parts are there on their own.
    dependencies = [each for part in parts for each in part.get("dependencies", ())]
    dependencies.append(
        {"ref": root["bom-ref"], "dependsOn": [component["bom-ref"] for component in components]}
    )
    roots = {part["metadata"]["component"]["bom-ref"] for part in parts if _has_root(part)}
    tools = [tool for part in parts for tool in part["metadata"]["tools"]["components"]]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": timestamp,
            "component": root,
            "tools": {"components": sorted(tools, key=lambda tool: tool["name"])},
            "properties": [
                {"name": name, "value": value} for name, value in sorted(properties.items())
            ],
        },
        "components": components,
        "dependencies": sorted(
            (each for each in dependencies if each["ref"] not in roots),
            key=lambda each: each["ref"],
        ),
    }


def _has_root(part: Document) -> bool:
    return "component" in part["metadata"]


def interpreter() -> Component:
    """Return Python itself; not every base has it from a Debian package."""
    version = platform.python_version()
    return {
        "type": "application",
        "bom-ref": f"pkg:generic/python@{version}",
        "name": "python",
        "version": version,
        "purl": f"pkg:generic/python@{version}",
        "licenses": [{"license": {"id": "Python-2.0"}}],
    }


def weights(store: Path) -> list[Component]:
    """Return the models whose weights are in a store, with their licences and hashes."""
    # Grace is only there in the image.
    from grace.catalogue.spec import load_catalogue
    from grace.catalogue.store import Receipt

    catalogue = load_catalogue(None)
    found: list[Component] = []
    for path in sorted(store.glob("*/*/receipt.json")):
        receipt = Receipt.model_validate_json(path.read_bytes())
        spec = catalogue.get(path.parent.parent.name)
        found.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"model:{spec.key}",
                "name": spec.key,
                "version": receipt.sha256[:12],
                "description": spec.title,
                "hashes": [{"alg": "SHA-256", "content": receipt.sha256}],
                "licenses": [{"license": {"name": spec.licence.name, "url": spec.licence.url}}],
                "externalReferences": [{"type": "distribution", "url": receipt.source}],
            }
        )
    return found


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)  # noqa: S603  our own words only


def main(title: str, version: str, out: Path) -> int:
    """Write the list; refuse an image that holds what its lock does not name."""
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    timestamp = datetime.fromtimestamp(epoch, UTC).isoformat()
    _run(
        *(TOOLS / "cyclonedx-py", "environment", "--output-reproducible"),
        *("--output-file", "python.json", sys.executable),
    )
    _run(
        *(TOOLS / "debsbom", "generate", "--sbom-type", "cdx", "--root", "/"),
        *("--cdx-schema-version", "1.6", "--timestamp", timestamp, "--out", "debian"),
        *("--cdx-serialnumber", "00000000-0000-0000-0000-000000000000"),
    )
    python, debian = (
        json.loads(Path(name).read_text("utf-8")) for name in ("python.json", "debian.cdx.json")
    )
    lock = Path("locks", LOCKS[title])
    if strangers := unlocked(python["components"], lock.read_text("utf-8")):
        sys.stderr.write(
            f"error: {title} holds {', '.join(strangers)}, which requirements/{lock.name} does not "
            "name; build the image again from this source\n"
        )
        return 1
    cache = os.environ.get("GRACE_CACHE")
    document = joined(
        title,
        version,
        (python, debian),
        (interpreter(), *(weights(Path(cache, "weights")) if cache else ())),
        {
            "grace:lock": f"requirements/{lock.name}",
            "grace:lock:sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
        },
        timestamp,
    )
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    check = (
        "import sys; from cyclonedx.schema import SchemaVersion; "
        "from cyclonedx.validation.json import JsonStrictValidator; "
        "fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()); "
        "sys.exit(str(fault) if fault else 0)"
    )
    _run(TOOLS / "python", "-c", check, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
