"""What pods say, and commands that are run in them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from grace.cluster.client.api import Api
from grace.cluster.client.logs import follow, tail
from grace.cluster.client.running import Ended, RunningCommand, running

_IDLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Output:
    """What a short command gave."""

    stdout: bytes
    ended: Ended


class PodAccess:
    """
    The pods of a cluster.

    Args:
        api: Its API.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    async def log_tail(
        self,
        pod: str,
        namespace: str,
        *,
        container: str | None = None,
        lines: int = 20,
        previous: bool = False,
    ) -> tuple[str, ...]:
        """
        Return the last lines that a pod said.

        Args:
            pod: Its name.

            namespace: Where it is.

            container: None if it has one only.

            lines: How many at most.

            previous: Of the container before its last restart.

        Raises:
            ClusterError: They cannot be read; `ObjectMissing` if the pod is gone.
        """
        return await tail(
            self._api, namespace, pod, container=container, lines=lines, previous=previous
        )

    async def log_lines(
        self, pod: str, namespace: str, *, container: str | None = None, lines: int | None = None
    ) -> AsyncIterator[str]:
        """
        Give what a pod says until its container ends.

        Args:
            pod: Its name.

            namespace: Where it is.

            container: None if it has one only.

            lines: How many of those before to begin with; None for all.

        Raises:
            ClusterError: They cannot be read.
        """
        async for line in follow(self._api, namespace, pod, container=container, lines=lines):
            yield line

    def running(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        idle_seconds: float | None = _IDLE_SECONDS,
    ) -> AbstractAsyncContextManager[RunningCommand]:
        """
        Run a command in a pod while its output is read.

        Args:
            pod: Its name.

            namespace: Where it is.

            command: The program and its arguments; no shell.

            container: None takes the pod's default.

            stdin: The command's input, which is closed after it.

            idle_seconds: How long the command may be silent.

        Raises:
            ClusterError: The command cannot be run.

            ClusterUnavailable: The connection broke; how the command ended is
                not known.
        """
        return running(
            self._api,
            namespace,
            pod,
            command,
            container=container,
            stdin=stdin,
            idle_seconds=idle_seconds,
        )

    async def run(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        idle_seconds: float | None = _IDLE_SECONDS,
    ) -> Output:
        """Run a command in a pod and return all that it gave; see `running`."""
        output = bytearray()
        async with self.running(
            pod,
            namespace,
            command,
            container=container,
            stdin=stdin,
            idle_seconds=idle_seconds,
        ) as command_at_work:
            async for data in command_at_work:
                output += data
            ended = command_at_work.ended
        if ended is None:
            raise AssertionError("a command's output ends with its status")
        return Output(bytes(output), ended)
