"""
What went wrong at the API, in words: one place where answers become errors.

Messages are cut, since bodies may repeat what was sent, and never show a
token or a part of a kubeconfig.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from grace.cluster.client.objects import Manifest, ObjectId, parts, text
from grace.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnavailable,
    FieldConflict,
    ObjectMissing,
)
from grace.hiding import printable
from grace.keys import hide_keys

_SHOWN = 400
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 120.0
# Whatever looks like a bearer token or a long run of base64 has no place in a message.
_SECRET = re.compile(r"(?i)(bearer\s+|basic\s+)\S+|[A-Za-z0-9+/_=-]{80,}")
_CONFLICT_WITH = re.compile(r'conflict with "(?P<manager>[^"]*)"')


def shown(message: str) -> str:
    """Return text of the cluster's as far as it may be shown: one line, cut, no secrets."""
    line = hide_keys(_SECRET.sub("[hidden]", printable(" ".join(message.split()))))
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    An answer of the API that is no success.

    Attributes:
        status: HTTP.

        reason: The API's own word, such as `AlreadyExists`.

        message: What the API says.

        causes: Single causes: field, reason, message.

        retry_after_seconds: How long it asked to wait.
    """

    status: int
    reason: str = ""
    message: str = ""
    causes: tuple[Manifest, ...] = ()
    retry_after_seconds: float | None = None

    @property
    def conflicting_managers(self) -> tuple[str, ...]:
        """Who owns the fields that an apply wanted to change."""
        found = (_CONFLICT_WITH.search(text(cause, "message")) for cause in self._conflicts)
        return tuple(dict.fromkeys(match["manager"] for match in found if match))

    @property
    def conflicting_fields(self) -> tuple[str, ...]:
        """Which fields they are."""
        return tuple(dict.fromkeys(text(cause, "field") for cause in self._conflicts))

    @property
    def _conflicts(self) -> Sequence[Manifest]:
        if self.status != 409:
            return ()
        return [cause for cause in self.causes if text(cause, "reason") == "FieldManagerConflict"]


def read_refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
    """Return what an answer says; it is not always the API that answers."""
    document: JsonValue
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    retry_after = _seconds(headers.get("Retry-After", ""))
    if not isinstance(document, dict):
        plain = re.sub(r"<[^>]*>", " ", body[:2000].decode("utf-8", "replace"))
        return Refusal(status, message=plain, retry_after_seconds=retry_after)
    return Refusal(
        status,
        text(document, "reason"),
        text(document, "message"),
        tuple(parts(document, "details", "causes")),
        retry_after,
    )


def as_error(refusal: Refusal, doing: str, target: ObjectId | None = None) -> ClusterError:
    """
    Return the error that an answer stands for.

    Args:
        refusal: The answer.

        doing: What was tried, such as `apply Job x in y`.

        target: The object that it was tried with, if it was one.
    """
    said = shown(refusal.message) or refusal.reason or "no reason given"
    what = f"cannot {doing}: {said}"
    match refusal.status:
        case 401:
            return ClusterDenied(
                f"{what} (401)\nyour credentials are not accepted, or no longer: log in again, and "
                "try `kubectl auth whoami` with the same context"
            )
        case 403:
            return _forbidden(refusal, what)
        case 404:
            return ObjectMissing(f"{what} (404)")
        case 409 if refusal.conflicting_managers:
            return _conflict(refusal, doing, target)
        case 422:
            return _invalid(refusal, doing, target)
        case status if status in _TRANSIENT:
            return ClusterUnavailable(f"{what} ({status})", refusal.retry_after_seconds)
        case 409:
            # Another writer was faster, or a name is still being freed.
            return ClusterUnavailable(f"{what} (409)", refusal.retry_after_seconds)
        case status:
            return ClusterError(f"{what} ({status})")


def _forbidden(refusal: Refusal, what: str) -> ClusterError:
    if "exceeded quota" in refusal.message:
        return ClusterError(
            f"{what}\nthe namespace's quota is used up: `kubectl describe quota` shows by what; "
            "free something, ask for more, or lower the profile's figures"
        )
    if "being terminated" in refusal.message:
        return ClusterError(f"{what}\nwait until it is gone, then start again")
    if "PodSecurity" in refusal.message:
        return ClusterError(f"{what}\nthe namespace enforces another level than the profile's")
    return ClusterDenied(
        f"{what} (403)\nask the namespace's admin for this permission; "
        "`kubectl auth can-i --list` shows those that you have"
    )


def _conflict(refusal: Refusal, doing: str, target: ObjectId | None) -> FieldConflict:
    managers = " and ".join(repr(shown(name)) for name in refusal.conflicting_managers)
    fields = ", ".join(shown(field) for field in refusal.conflicting_fields) or "some fields"
    who = f"{target}" if target is not None else "the object"
    return FieldConflict(
        f"cannot {doing}: {fields} of {who} belong to field manager {managers}, not to grace\n"
        f"somebody else keeps this object: {_remedy(target)}"
    )


def _invalid(refusal: Refusal, doing: str, target: ObjectId | None) -> ClusterError:
    faults = [f"{text(cause, 'field')}: {text(cause, 'message')}" for cause in refusal.causes] or [
        refusal.message
    ]
    said = shown("; ".join(faults))
    # A claim that exists is refused for its size as well, in words of its own.
    exists = target is not None and target.kind == "PersistentVolumeClaim"
    if "immutable" in refusal.message or "updates to statefulset spec" in refusal.message or exists:
        return ClusterError(
            f"cannot {doing}: {said}\nwhat is there was made otherwise, and cannot be changed in "
            f"place: {_remedy(target)}"
        )
    return ClusterError(f"cannot {doing}: the API finds it invalid: {said}")


def _remedy(target: ObjectId | None) -> str:
    """Return what to do about an object that is in the way; never what loses data."""
    if target is None:
        return "give the run another namespace"
    place = f" -n {target.namespace}" if target.namespace is not None else ""
    named = f"{place} {target.kind.lower()} {target.name}"
    match target.kind:
        case "Namespace":
            return (
                "if the namespace is given to you, say so in a profile of your own, with "
                "`namespace: {create: false}`; or choose another one"
            )
        case "PersistentVolumeClaim":
            return (
                f"set storage in the profile to what `kubectl get{named}` shows (deleting the "
                "claim would lose what is on it)"
            )
        case _:
            return (
                f"remove it with `kubectl delete{named}` if it is yours, and start again; or give "
                "the run another namespace"
            )


def _seconds(header: str) -> float | None:
    # A date is allowed by HTTP; the API server sends seconds.
    try:
        return min(max(float(header), 0.0), _LONGEST_WAIT_SECONDS)
    except ValueError:
        return None
