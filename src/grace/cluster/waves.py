"""
The steps of a run one after the other, for somebody who applies them by hand.

An executor starts a step as soon as it can; a person does one thing at a time.
A server is started when something needs it, asked everything that can be asked,
and stopped before the next: the same rule as everywhere, without overlap.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from grace.cluster.request import ClusterRun, ServerModels
from grace.cluster.steps import Step, StepKind, StepName


@dataclass(frozen=True, slots=True)
class Start:
    """A model server is started."""

    server: ServerModels


@dataclass(frozen=True, slots=True)
class Ask:
    """
    Steps are begun together; each must have succeeded before the next wave.

    Attributes:
        steps: None needs another of them; as many as the profile lets work at once.

        server: The server that all of them ask; None if they need none.
    """

    steps: tuple[Step, ...]
    server: ServerModels | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """A model server is stopped."""

    server: ServerModels


Wave = Start | Ask | Stop


def waves(run: ClusterRun) -> tuple[Wave, ...]:
    """Return what is to be done, in order; every step of the run is in it once."""
    return tuple(_Order(run).waves())


class _Order:
    """Keeps what is left to do."""

    def __init__(self, run: ClusterRun) -> None:
        self._run = run
        self._left = list(run.steps)
        self._done: set[StepName] = set()

    def waves(self) -> Iterator[Wave]:
        # All weights first: they are fetched side by side, and no GPU waits for them.
        while weights := self._some(step for step in self._left if step.kind is StepKind.WEIGHTS):
            yield self._asked(weights)
        while self._left:
            before = len(self._left)
            yield from self._without_server()
            for server in self._run.servers:
                if self._ready(server.base.key):
                    yield Start(server)
                    while ready := self._ready(server.base.key):
                        yield self._asked(ready, server)
                    yield Stop(server)
            if len(self._left) == before:
                names = ", ".join(step.name for step in self._left)
                raise ValueError(f"these steps wait for each other: {names}")

    def _without_server(self) -> Iterator[Wave]:
        while ready := self._ready(None):
            yield self._asked(ready)

    def _ready(self, server: str | None) -> tuple[Step, ...]:
        return self._some(
            step
            for step in self._left
            if step.server == server and self._done.issuperset(step.needs)
        )

    def _some(self, steps: Iterable[Step]) -> tuple[Step, ...]:
        """Return as many as the profile lets work at the same time."""
        return tuple(islice(steps, self._run.profile.jobs.at_once))

    def _asked(self, steps: tuple[Step, ...], server: ServerModels | None = None) -> Ask:
        self._done.update(step.name for step in steps)
        self._left = [step for step in self._left if step.name not in self._done]
        return Ask(steps, server)
