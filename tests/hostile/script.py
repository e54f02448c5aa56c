"""
What a hostile server does to which requests: rules, read from JSON.

The same script does the same to the same requests: chance is a hash of the
seed, what is asked, and how many times it was asked before. It knows nothing
of HTTP or of how faults are made.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One fault and the requests that it befalls: those that meet every condition given.

    Attributes:
        fault: Name of the fault.

        share: Share of the requests, at random; 1 for all.

        about: A text that what is asked must hold.

        first: Only so many times for the same request; 0 for always.

        times: Only so many times in all; 0 for always.

        at: Only the requests of these numbers, counted from 1 over the script's
            life; empty for all.

        after: Only after so many requests of the script.

        on: What the path must begin with.

        seconds: How long it lasts, for faults that last.
    """

    fault: str
    share: float = 1.0
    about: str = ""
    first: int = 0
    times: int = 0
    at: tuple[int, ...] = ()
    after: int = 0
    on: str = "/"
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Script:
    """Rules, of which the first that applies is followed, and the seed of their chance."""

    rules: tuple[Rule, ...] = ()
    seed: int = 1

    def to_json(self) -> str:
        """Return the script as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Script":
        """Read a script."""
        held: Mapping[str, Any] = json.loads(text)
        rules = [Rule(**{**rule, "at": tuple(rule.get("at", ()))}) for rule in held["rules"]]
        return cls(tuple(rules), held.get("seed", 1))


@dataclass(slots=True)
class Director:
    """
    Follows a script.

    Attributes:
        befell: How often each fault was chosen.
    """

    script: Script
    befell: Counter[str] = field(default_factory=Counter)
    _followed: Counter[int] = field(default_factory=Counter)
    _asked: Counter[bytes] = field(default_factory=Counter)
    _number: int = 0

    def choose(self, path: str, body: bytes, texts: Sequence[str]) -> Rule | None:
        """
        Return the rule for a request, if one applies.

        Shares of several rules add up: each has its own part of the chance.
        """
        content = hashlib.sha256(path.encode() + b"\0" + body).digest()
        self._asked[content] += 1
        self._number += 1
        attempt = self._asked[content]
        chance = _chance(self.script.seed, content, attempt)
        taken = 0.0
        for place, rule in enumerate(self.script.rules):
            if rule.share < 1:
                taken += rule.share
                if not taken - rule.share <= chance < taken:
                    continue
            if (
                path.startswith(rule.on)
                and (not rule.about or any(rule.about in text for text in texts))
                and (not rule.first or attempt <= rule.first)
                and (not rule.times or self._followed[place] < rule.times)
                and self._number > rule.after
                and (not rule.at or self._number in rule.at)
            ):
                self._followed[place] += 1
                self.befell[rule.fault] += 1
                return rule
        return None


def _chance(seed: int, content: bytes, attempt: int) -> float:
    digest = hashlib.sha256(b"%d %d " % (seed, attempt) + content).digest()
    return int.from_bytes(digest[:7]) / 2**56
