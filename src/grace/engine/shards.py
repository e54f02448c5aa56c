"""
Shards: how several processes share the queries of a run, each asked by one of them.

All queries lie on a line from 0 to 1, and a shard is a piece of it. Plans are put
on the line in their order, in which neighbours share most of their prompts, so a
server meets such prompts one after the other. What depends on answers, as an
extraction does, is put there by its key. Both are the same in every process, and
stay what they are when the number of shards changes: two shards can meet on a
query only if their pieces overlap.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from grace.engine.plan import Dialogue, QueryKey, ResponsePlan, ScorePlan
from grace.errors import UsageError
from grace.studies.streamed import Streamed

MOST_SHARDS = 1000

_WRITTEN = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
# Enough to tell pieces of 1/999 and 1/1000 apart, and little enough for every kind of file lock.
_LINE = 1 << 30
_KEYS = 1 << 32


@dataclass(frozen=True, slots=True)
class Shard:
    """
    One of several equal parts of a run's queries.

    Attributes:
        index: Which part, from 0.

        count: How many parts there are.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """
        Read a shard as it is written: `0/4` is the first of four.

        Raises:
            UsageError: It is not written so.
        """
        found = _WRITTEN.fullmatch(text)
        index, count = (int(found[1]), int(found[2])) if found is not None else (0, 0)
        if not index < count <= MOST_SHARDS:
            raise UsageError(
                f"--shard is {text!r}; expected I/N with I from 0 to N-1 and N up to "
                f"{MOST_SHARDS}, such as 0/4"
            )
        return cls(index, count)

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """How the names of its files have it."""
        return f"{self.index}of{self.count}"

    @property
    def span(self) -> tuple[int, int]:
        """Where its piece of the line begins and how long it is, in whole steps for a lock."""
        begin, end = (place * _LINE // self.count for place in (self.index, self.index + 1))
        return begin, end - begin

    def takes(self, place: int, places: int) -> bool:
        """
        Whether what stands at a place belongs to it.

        Args:
            place: From 0.

            places: How many there are.

        >>> [place for place in range(10) if Shard(1, 3).takes(place, 10)]
        [4, 5, 6]
        """
        return place * self.count // places == self.index

    def takes_key(self, key: QueryKey) -> bool:
        """Whether a query belongs to it whose place in a plan is not fixed."""
        return self.takes(int(key[:8], 16), _KEYS)

    def of_responses(self, plan: ResponsePlan) -> ResponsePlan:
        """Return a plan with this shard's dialogues only; dialogues that share a query stay together."""
        return replace(plan, dialogues=Streamed(lambda: self._dialogues(plan)))

    def _dialogues(self, plan: ResponsePlan) -> Iterator[Dialogue]:
        total = len(plan.dialogues)
        first: QueryKey | None = None
        begins = 0
        for place, dialogue in enumerate(plan.dialogues):
            # Dialogues that share any query share the first one, and stand side by side.
            if dialogue.queries[0].key != first:
                first, begins = dialogue.queries[0].key, place
            if self.takes(begins, total):
                yield dialogue

    def of_scores(self, plan: ScorePlan) -> ScorePlan:
        """Return a plan with this shard's distributions only."""
        total = len(plan.queries)
        mine = (query for place, query in enumerate(plan.queries) if self.takes(place, total))
        return replace(plan, queries=tuple(mine))
