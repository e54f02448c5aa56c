"""The scanner of manifests: what it is not asked is argued, in one place and for readers."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = (ROOT / "deploy/checkov.yaml").read_text("utf-8")
PAGE = (ROOT / "docs/explanation/site-rules.md").read_text("utf-8")


def left_out() -> list[str]:
    found: list[str] = yaml.safe_load(CONFIG)["skip-check"]
    return found


def test_what_is_left_out_is_argued_before_each_line() -> None:
    lines = CONFIG.splitlines()
    for check in left_out():
        before = lines[lines.index(f"  - {check}") - 1]
        assert before.startswith("  # ")
        assert before.endswith(".")


def test_readers_are_told_the_same_list() -> None:
    assert left_out() == re.findall(r"^\| `(CKV_\w+)` \|", PAGE, re.M)
    assert len(set(left_out())) == len(left_out())


def test_single_checks_are_left_out_and_never_whole_groups_or_failures() -> None:
    assert all(re.fullmatch(r"CKV2?_K8S_\d+", check) for check in left_out())
    assert not {"soft-fail", "soft-fail-on", "skip-path", "check"} & set(yaml.safe_load(CONFIG))


def test_the_scanner_is_locked_with_hashes() -> None:
    text = (ROOT / "requirements/scan.txt").read_text("utf-8")
    blocks = [block for block in re.split(r"(?m)^(?=\S)", text) if block.strip()]
    assert any(block.startswith("checkov==") for block in blocks)
    assert all("--hash=sha256:" in block for block in blocks)
