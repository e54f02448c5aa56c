"""The list of what is in an image, joined from several."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    """Return the script that lists what is in an image, as a module."""
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "deploy" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(tool: str, *names: str, root: str | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tools": {"components": [{"name": tool, "type": "application"}]}}
    dependencies: list[dict[str, Any]] = [{"ref": name} for name in names]
    if root is not None:
        metadata["component"] = {"bom-ref": root, "name": root, "type": "operating-system"}
        dependencies.append({"ref": root, "dependsOn": list(names)})
    components = [{"bom-ref": name, "name": name, "type": "library"} for name in names]
    return {"metadata": metadata, "components": components, "dependencies": dependencies}


def document(sbom: ModuleType, *parts: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = sbom.joined(
        "grace-runner", "1.2", parts, [sbom.interpreter()], {"b": "2", "a": "1"}, "2026-01-01"
    )
    return found


def test_the_image_is_the_root_and_depends_on_everything(sbom: ModuleType) -> None:
    joined = document(sbom, part("one", "scipy", "numpy"), part("two", "libc6", root="Debian"))

    refs = [component["bom-ref"] for component in joined["components"]]
    by_ref = {each["ref"]: each for each in joined["dependencies"]}

    assert joined["metadata"]["component"]["bom-ref"] == "grace-runner@1.2"
    assert by_ref["grace-runner@1.2"]["dependsOn"] == refs
    assert {"scipy", "numpy", "libc6", sbom.interpreter()["bom-ref"]} == set(refs)
    # A reference to the root of a part would point to nothing.
    assert set(by_ref) == {*refs, "grace-runner@1.2"} - {sbom.interpreter()["bom-ref"]}


def test_the_order_of_the_parts_changes_nothing(sbom: ModuleType) -> None:
    parts = part("one", "scipy", "numpy"), part("two", "libc6", root="Debian")

    there, back = document(sbom, *parts), document(sbom, *reversed(parts))

    assert json.dumps(there) == json.dumps(back)


def test_a_package_that_the_lock_does_not_name_is_found(sbom: ModuleType) -> None:
    lock = "numpy==2.4.6 ; python_version < '3.12' \\\n    --hash=sha256:00\nruamel-yaml==0.19.1\n"
    components = [
        {"name": "numpy", "version": "2.4.6"},
        {"name": "ruamel.yaml", "version": "0.19.1"},
        {"name": "grace", "version": "0.1.0"},
        {"name": "left-pad", "version": "1.0"},
        {"name": "Numpy", "version": "2.5.0"},
    ]

    assert sbom.unlocked(components, lock) == ["left-pad==1.0", "Numpy==2.5.0"]


def test_weights_are_listed_with_their_hash_source_and_licence(
    sbom: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "smollm2-135m" / "0123456789ab"
    folder.mkdir(parents=True)
    receipt = {"version": 1, "weights": "a.gguf", "source": "pypi://a", "sha256": "f" * 64}
    file = {"path": "", "size_bytes": 1, "modified_ns": 1, "sha256": "f" * 64}
    (folder / "receipt.json").write_text(json.dumps({**receipt, "files": [file]}), "utf-8")

    (found,) = sbom.weights(tmp_path)

    assert found["type"] == "machine-learning-model"
    assert found["hashes"] == [{"alg": "SHA-256", "content": "f" * 64}]
    assert found["externalReferences"] == [{"type": "distribution", "url": "pypi://a"}]
    assert found["licenses"][0]["license"]["name"] == "Apache License 2.0"
