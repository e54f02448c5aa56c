"""
Real processes that run a command line of Grace, started in milliseconds.

Importing Grace takes seconds. Here one process imports it and forks for every
command line, so that tests can kill a command many times. Run as a script, this
file is that process; it speaks JSON lines.
"""

import errno
import fnmatch
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Command:
    """A command line that was started."""

    pid: int
    log: Path
    forker: "Forker"

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = TIMEOUT_SECONDS) -> int:
        """Return the exit code, negative for a signal; a command that hangs is killed."""
        code = self.forker.call({"wait": self.pid, "seconds": seconds})["code"]
        assert code is not None, f"still running after {seconds} s:\n{self.output}"
        return int(code)

    @property
    def output(self) -> str:
        """Standard output and standard error together."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""


class Forker:
    """Starts commands; use it in a `with` block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Forker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.stdin.close()  # type: ignore[union-attr]
            self._process.wait(30)
            self._process.stdout.close()  # type: ignore[union-attr]

    def start(
        self,
        arguments: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        largest_file: int | None = None,
        dies_of_full_disk: bool = False,
        dies_before: tuple[str, str] | None = None,
        runs_before: tuple[str, str, str] | None = None,
        read_only_from: str | None = None,
    ) -> Command:
        """
        Start `grace ARGUMENTS`.

        Args:
            arguments: The command line.

            log: Takes what it prints.

            environment: Variables on top of this process's own.

            largest_file: Bounds the size of every file that it writes: a write
                beyond it fails as on a full disk.

            dies_of_full_disk: Such a write kills it instead, in the middle of
                what it writes.

            dies_before: An audit event of Python (`open`, `os.rename`, `os.mkdir`)
                and a pattern of file names: SIGKILL comes right before the first.

            runs_before: The same, and a shell command that is run there instead.

            read_only_from: A pattern of file names: from the first that is opened on,
                all folders are read-only, as after a fault of their disk.
        """
        reply = self.call(
            {
                "start": [str(argument) for argument in arguments],
                "log": str(log),
                "environment": {
                    **{name: os.environ[name] for name in ("XDG_CONFIG_HOME",)},
                    **(environment or {}),
                },
                "largest_file": largest_file,
                "dies_of_full_disk": dies_of_full_disk,
                "dies_before": dies_before,
                "runs_before": runs_before,
                "read_only_from": read_only_from,
            }
        )
        return Command(int(reply["pid"]), log, self)

    def run(self, arguments: Sequence[str | Path], log: Path, **options: Any) -> tuple[int, str]:
        """Run `grace ARGUMENTS` to its end; return exit code and output."""
        command = self.start(arguments, log, **options)
        return command.wait(), command.output

    def call(self, request: Mapping[str, Any]) -> Any:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, __file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            process = self._process
            process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return json.loads(process.stdout.readline())  # type: ignore[union-attr]


def wait_for_lines(out: Path, lines: int, seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait until the journals of the runs in a folder have so many lines together."""
    deadline = time.monotonic() + seconds
    while sum(path.read_bytes().count(b"\n") for path in out.rglob("journal/*")) < lines:
        assert time.monotonic() < deadline, f"{out} has no {lines} lines after {seconds} s"
        time.sleep(0.05)


def _fork(request: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(request["environment"])
        # Where the tests run in the background, SIGINT is ignored; at a terminal it is not.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["largest_file"] is not None:
            limit = request["largest_file"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if request["dies_of_full_disk"]:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        if request["dies_before"] is not None:
            event, pattern = request["dies_before"]
            _watch(event, pattern, lambda: os.kill(os.getpid(), signal.SIGKILL))
        if request["runs_before"] is not None:
            event, pattern, command = request["runs_before"]
            _watch(event, pattern, lambda: subprocess.check_call(command, shell=True))  # noqa: S602
        if request["read_only_from"] is not None:
            _watch("open", request["read_only_from"], _make_read_only)
        from grace.cli.main import invoke

        code = invoke(request["start"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  shown to the test, whatever it is
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _watch(event: str, pattern: str, act: Callable[[], object]) -> None:
    """Act once, right before something happens to a file."""
    acted = False

    def watch(happens: str, arguments: tuple[Any, ...]) -> None:
        nonlocal acted
        if not acted and happens == event and isinstance(arguments[0], str | os.PathLike):
            name = Path(os.fsdecode(arguments[0])).name
            if fnmatch.fnmatchcase(name, pattern):
                acted = True
                act()

    sys.addaudithook(watch)


def _make_read_only() -> None:
    def refuse(happens: str, arguments: tuple[Any, ...]) -> None:
        changes = happens in {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
        if changes or (happens == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    sys.addaudithook(refuse)
    refuse("os.mkdir", ())


def _wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main() -> None:
    import grace.cli.main  # noqa: F401  imported once, for all that is forked

    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, Any]
        if "start" in request:
            reply = {"pid": _fork(request)}
        else:
            reply = {"code": _wait(request["wait"], request["seconds"])}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
