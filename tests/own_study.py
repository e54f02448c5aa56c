"""A small study of one's own, with answers to choose."""

import json
from collections.abc import Sequence
from pathlib import Path

WORDS = ("cat", "dog", "owl", "a much longer word than all of the others")


def write_study(folder: Path, answers: Sequence[str], words: Sequence[str] = WORDS) -> list[str]:
    """Write a study with one probe, `liked`, and its trials; return the flags that name them."""
    forms = ", ".join(json.dumps(answer) for answer in answers)
    path = folder / "mine.yaml"
    path.write_text(
        "key: mine\n"
        "title: Mine\n"
        "description: For tests.\n"
        "columns: [{name: word, description: A word.}]\n"
        "conditions: [word]\n"
        "candidates:\n"
        "  - name: liked\n"
        '    question: "Do you like {word}?"\n'
        f"    answers: [{forms}]\n"
    )
    trials = folder / "mine.csv"
    trials.write_text("\n".join(["word", *words]) + "\n")
    return ["--study", str(path), "--input", f"mine={trials}"]
