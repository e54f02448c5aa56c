"""
Runs one parser on many mutated inputs, and says what it did with them.

A parser may accept an input or refuse it with a `GraceError`. Anything else is a
fault: another exception, more than two seconds of CPU, more memory than half a
gigabyte, or a `Broken` promise about what was accepted. Every fault is kept with
its input, and the next input is tried.
"""

import contextlib
import gc
import resource
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.mutations import Recipe
from grace.errors import GraceError

MOST_SECONDS = 2.0
MOST_BYTES = 500 * 1024 * 1024
MOST_MESSAGE = 100_000
_HANGING_SECONDS = 8.0
_MOST_KEPT = 25
_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


class Broken(AssertionError):
    """What a parser accepted is not what the input says."""


class _Hangs(BaseException):
    """Raised inside a parser that does not come to an end."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    One parser under attack.

    Attributes:
        name: What reports call it.

        inputs: Draws its inputs.

        read: Parses one; raises a `GraceError` if it refuses it.

        check: Gets an input and what was read of it; raises `Broken` if the one is
            not what the other says. Its time does not count.
    """

    name: str
    inputs: st.SearchStrategy[Recipe] = field(repr=False)
    read: Callable[[bytes], object]
    check: Callable[[bytes, object], None] = lambda _content, _read: None


@dataclass(frozen=True, slots=True)
class Fault:
    """What a parser must not do, and the input that makes it do so."""

    what: str
    content: bytes


@dataclass(slots=True)
class Report:
    """What a parser did with its inputs."""

    name: str
    accepted: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0
    slowest: bytes = b""
    peak_bytes: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    n_faults: int = 0

    @property
    def inputs(self) -> int:
        """How many inputs were tried."""
        return self.accepted + self.refused + self.n_faults


def attack(target: Target, inputs: int, number: int = 1) -> Report:
    """
    Try a parser on mutated inputs; the same ones for the same *number*.

    Args:
        target: The parser.

        inputs: How many.

        number: The seed.
    """
    report = Report(target.name)
    known: set[str] = set()

    @seed(number)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def try_all(recipe: Recipe) -> None:
        _try(target, recipe.made(), report, known)

    with _bounded_time():
        try_all()
    return report


def bound_memory() -> None:
    """Let this process fail, rather than the machine, when it takes far too much memory."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 3 * MOST_BYTES, hard))


def _resident(name: str) -> int:
    """Return VmRSS, the memory that is held now, or VmHWM, the most since `_forget_peak`."""
    text = _STATUS.read_text()
    return int(text.partition(f"{name}:")[2].split(None, 1)[0]) * 1024 if name in text else 0


def _forget_peak() -> None:
    # Where it cannot be reset, the peak of all inputs so far stands for that of each.
    with contextlib.suppress(OSError):
        _FORGET.write_text("5")


def _try(target: Target, content: bytes, report: Report, known: set[str]) -> None:
    _forget_peak()
    before = _resident("VmRSS")
    started = time.thread_time()
    read = _read(target, content)
    seconds = time.thread_time() - started
    more = max(0, _resident("VmHWM") - before)
    if seconds > report.slowest_seconds:
        report.slowest_seconds, report.slowest = seconds, content
    report.peak_bytes = max(report.peak_bytes, more)
    fault = read.fault
    if not fault and more > MOST_BYTES:
        fault = f"takes {more >> 20} MiB of memory"
    if not fault and seconds > _most_seconds(content):
        fault = f"takes {seconds:.1f} s of CPU for {len(content):,} bytes"
    if not fault and read.accepted:
        fault = _broken(target, content, read.value)
    if fault:
        gc.collect()
        report.n_faults += 1
        where = fault[:24] if fault.startswith("(") else fault[fault.rfind("(") :][:200]
        if where not in known and len(report.faults) < _MOST_KEPT:
            known.add(where)
            report.faults.append(Fault(fault, content))
    else:
        report.accepted += read.accepted
        report.refused += not read.accepted
        if read.refusal:
            report.refusals[read.refusal] = report.refusals.get(read.refusal, 0) + 1


@dataclass(frozen=True, slots=True)
class _Read:
    """What came of one input."""

    accepted: bool = False
    value: object = None
    refusal: str = ""
    fault: str = ""


def _read(target: Target, content: bytes) -> _Read:
    try:
        with _alarm(_most_seconds(content) + _HANGING_SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error")
            return _Read(accepted=True, value=target.read(content))
    except GraceError as error:
        return _Read(refusal=type(error).__name__, fault=_message_fault(str(error)))
    except _Hangs:
        return _Read(fault="no end")
    except MemoryError:
        return _Read(fault=f"takes more than {3 * MOST_BYTES >> 20} MiB of memory")
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return _Read(fault=_told(error))


def _broken(target: Target, content: bytes, value: object) -> str:
    try:
        target.check(content, value)
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return _told(error)
    return ""


def _most_seconds(content: bytes) -> float:
    """Reading takes time in proportion to a file, so a large one has more of it."""
    return MOST_SECONDS * max(1.0, len(content) / 1_000_000)


def _told(error: Exception) -> str:
    place = [
        f"{frame.filename.rpartition('/grace/')[2]}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/src/grace/" in frame.filename
    ]
    return f"{type(error).__name__}: {str(error)[:300]} ({' < '.join(reversed(place[-3:]))})"


def _message_fault(message: str) -> str:
    hidden = [c for c in message if ord(c) < 32 and c not in "\n\t"]
    if hidden:
        return f"(the message holds {hidden[0]!r}): {message[:200]!r}"
    if len(message) > MOST_MESSAGE:
        return f"(the message has {len(message):,} characters): {message[:200]!r}"
    return ""


@contextmanager
def _bounded_time() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGPROF, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
