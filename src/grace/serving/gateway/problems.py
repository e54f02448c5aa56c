"""
What the gateway answers when it has no numbers: problem documents (RFC 9457).

Every reply that is not a success has this one form. It says what happened,
with which candidate and tokens, and what to do. Nothing here knows of HTTP
libraries; statuses are plain numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from grace.errors import (
    BadReply,
    GarbledReply,
    GraceError,
    IdentityMismatch,
    QueryRejected,
    ScoringError,
    ServerUnavailable,
    UnsupportedByServer,
)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
_SERVER_RETRY_SECONDS = 5
_MOST_FAULTS = 20
# What a server says to a gateway that asks wrongly; no client of the gateway can mend it.
_OUR_FAULT = frozenset({401, 403, 404, 405})


class Kind(Enum):
    """Every problem: its name in `type`, its status and its title."""

    NOT_JSON = ("not-json", 400, "The body is not JSON")
    UNAUTHORISED = ("unauthorised", 401, "A valid token is needed")
    NOT_FOUND = ("not-found", 404, "There is nothing here")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "This address takes another method")
    BODY_TIMEOUT = ("body-timeout", 408, "The body took too long to arrive")
    BODY_TOO_LARGE = ("body-too-large", 413, "The body is too large")
    MEDIA_TYPE = ("unsupported-media-type", 415, "The body must be sent as JSON")
    WRONG_HOST = ("wrong-host", 421, "This host name does not lead here")
    INVALID = ("invalid-request", 422, "The request does not fit the schema")
    UNSCORABLE = ("unscorable-candidates", 422, "The candidates cannot be scored exactly")
    REJECTED = ("rejected-by-server", 422, "The model server refuses this prompt")
    UNSUPPORTED = ("unsupported-method", 422, "The model server cannot be asked this way")
    TOO_BUSY = ("too-busy", 429, "Too many requests at a time")
    INTERNAL = ("internal-error", 500, "A fault of the gateway")
    BAD_REPLY = ("bad-server-reply", 502, "The model server's reply cannot be used")
    SERVER_GONE = ("server-unavailable", 503, "The model server does not answer")
    SERVER_CHANGED = ("server-changed", 503, "Another model or server answers than before")
    TIMEOUT = ("timeout", 504, "The answer took too long")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def uri(self) -> str:
        """The problem's `type`."""
        return f"urn:grace:problem:{self.slug}"


class ProblemToken(BaseModel):
    """A token, by number and text."""

    model_config = ConfigDict(frozen=True)

    id: int = Field(description="The token's number.")
    text: str | None = Field(description="Null if the server cannot tell.")


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(frozen=True)

    message: str = Field(description="What is wrong.")
    pointer: str | None = Field(default=None, description="Where in the body (RFC 6901).")
    candidate: str | None = Field(default=None, description="The candidate's label.")
    form: str | None = Field(default=None, description="The form, with its separator.")
    tokens: list[ProblemToken] | None = Field(
        default=None, description="The form's tokens, or those at the seam."
    )
    remedy: str | None = Field(default=None, description="What to change.")


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="Names the kind of problem; see the documentation.")
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened in this case.")
    remedy: str | None = Field(default=None, description="What to do.")
    faults: list[Fault] = Field(default_factory=list, description="Each fault, if there are many.")


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    A problem and the headers that go with it.

    Attributes:
        kind: Which problem.

        problem: The document.

        headers: Further headers, such as `Retry-After`.
    """

    kind: Kind
    problem: Problem
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the document as JSON."""
        return self.problem.model_dump_json(exclude_none=True).encode()


class RefusedRequest(Exception):
    """A request that gets a problem for an answer; never leaves the gateway."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.problem.detail)


class UnscorableCandidates(ScoringError):
    """
    A candidate set that cannot be scored exactly, with all of its faults.

    Args:
        faults: One for each form that is at fault.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        super().__init__("; ".join(fault.message for fault in faults[:3]))


def refuse(
    kind: Kind,
    detail: str,
    *,
    remedy: str | None = None,
    faults: tuple[Fault, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    """Return a refusal; *detail* says what happened this time."""
    problem = Problem(
        type=kind.uri,
        title=kind.title,
        status=kind.status,
        detail=safe_text(detail),
        remedy=remedy,
        faults=list(faults),
    )
    return Refusal(kind, problem, headers or {})


def refusal_of(error: GraceError) -> Refusal:
    """Return what an error of the scoring part is answered with."""
    match error:
        case UnscorableCandidates():
            return refuse(
                Kind.UNSCORABLE,
                str(error),
                remedy="Change the candidates or what stands before them; see faults.",
                faults=error.faults,
            )
        case ScoringError():
            return refuse(Kind.BAD_REPLY, f"the server's numbers do not fit together: {error}")
        case UnsupportedByServer():
            return refuse(Kind.UNSUPPORTED, str(error), remedy="Use the method auto.")
        case QueryRejected(http_status=status) if status in _OUR_FAULT:
            return refuse(
                Kind.BAD_REPLY,
                f"the model server refuses the gateway: {error}",
                remedy="Whoever runs the gateway should check its --endpoint and key.",
            )
        case QueryRejected():
            return refuse(
                Kind.REJECTED, str(error), remedy="A shorter prompt may fit the model's context."
            )
        case IdentityMismatch():
            return refuse(
                Kind.SERVER_CHANGED,
                str(error),
                remedy="Start the gateway again, and treat its numbers as another model's.",
            )
        case GarbledReply():
            return refuse(Kind.BAD_REPLY, str(error))
        case ServerUnavailable(retry_after_seconds=wanted):
            seconds = _SERVER_RETRY_SECONDS if wanted is None else min(wanted, 3600.0)
            # The message holds the server's address, which is not for everybody: it is logged.
            return refuse(
                Kind.SERVER_GONE,
                "the model server did not answer, or asked for patience; nothing was measured",
                remedy="Try again later.",
                headers={"Retry-After": str(max(1, math.ceil(seconds)))},
            )
        case BadReply():
            return refuse(Kind.BAD_REPLY, str(error))
        case _:
            return refuse(Kind.INTERNAL, type(error).__name__)


def invalid(faults: tuple[Fault, ...]) -> Refusal:
    """Return the refusal of a body that does not fit the schema."""
    first = faults[0]
    place = f"{first.pointer}: " if first.pointer else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return refuse(Kind.INVALID, f"{place}{first.message}{more}", faults=faults[:_MOST_FAULTS])


def schema_faults(errors: Sequence[Any]) -> tuple[Fault, ...]:
    """
    Return the faults that pydantic found, without the values that it was given.

    Args:
        errors: As `ValidationError.errors()` has them.
    """
    faults = []
    for error in errors:
        place = _place(error["loc"])
        faults.append(Fault(message=_sentence(error, place), pointer=_pointer(place)))
    return tuple(faults)


def safe_text(text: str) -> str:
    r"""
    Return a text that UTF-8 can hold: halves of surrogate pairs are written out.

    >>> safe_text("a" + chr(0xD800)) == r"a\ud800"
    True
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _place(location: Sequence[str | int]) -> list[str | int]:
    """Return where in the body an error is, without the names that pydantic gives to choices."""
    place = list(location[2:])
    if place[:1] == ["candidates"] and len(place) > 2:
        del place[2]
    return place


def _sentence(error: Mapping[str, Any], place: Sequence[str | int]) -> str:
    if error["type"] == "missing" and place == ["prompt"]:
        return "give a prompt (a text) or messages (a chat)"
    if error["type"] == "extra_forbidden":
        if place == ["prompt"]:
            return "give a prompt or messages, not both"
        return "this name is not known"
    if error["type"] in {"model_type", "model_attributes_type"}:
        return "expected an object"
    return str(error["msg"]).replace("Input should be", "expected")


def _pointer(place: Sequence[str | int]) -> str:
    # Names are the client's own and may be long or no text at all.
    parts = (safe_text(str(part))[:100].replace("~", "~0").replace("/", "~1") for part in place)
    return "".join(f"/{part}" for part in parts)
