"""Hypothesis strategies for the things that Grace works with."""

from hypothesis import strategies as st
from pydantic import JsonValue

from grace.engine.journal import Record
from grace.engine.plan import QueryKey
from grace.runs.csvfile import Table

any_text = st.text(
    st.characters(codec=None)
    | st.sampled_from(["\r", "\n", '"', ",", "'", "\ufeff", "\u2028", "\0", "\ud83d", "\udc00"])
)
"""Any text, halves of surrogate pairs included."""

writable_text = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\r", "\n", '"', ",", "\u2028"])
)
"""Any text that UTF-8 can hold."""

logprobs = st.floats(min_value=-60, max_value=0, allow_nan=False)

labels = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)

token_ids = st.integers(min_value=0, max_value=40)


@st.composite
def exclusive_logprobs(draw: st.DrawFn) -> dict[str, list[float]]:
    """Log-probabilities of the forms of some answers, whose probabilities sum to 1 or less."""
    names = draw(labels)
    forms = {
        name: draw(st.lists(st.floats(min_value=-40, max_value=0), min_size=1, max_size=3))
        for name in names
    }
    count = sum(len(values) for values in forms.values())
    # Each is at most 1/count.
    return {name: [value - count for value in values] for name, values in forms.items()}


@st.composite
def prefix_free(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Distinct token sequences, none of which begins another."""
    found: list[tuple[int, ...]] = []
    for ids in draw(st.lists(st.lists(token_ids, min_size=1, max_size=4).map(tuple), min_size=1)):
        if all(ids[: len(other)] != other and other[: len(ids)] != ids for other in found):
            found.append(ids)
    return found


@st.composite
def tables(draw: st.DrawFn, cells: st.SearchStrategy[str] = writable_text) -> Table:
    """A rectangular table."""
    width = draw(st.integers(min_value=1, max_value=5))
    row = st.lists(cells, min_size=width, max_size=width).map(tuple)
    return Table(draw(row), tuple(draw(st.lists(row, max_size=5))))


json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)

keys = st.integers(min_value=0, max_value=8).map(lambda number: QueryKey(f"{number:032x}"))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """How a query ended."""
    answered = draw(st.booleans())
    return Record(
        key=draw(keys),
        stage="respond",
        probe=draw(any_text),
        status="answered" if answered else "failed",
        value=draw(st.dictionaries(any_text, json_values, max_size=3)) if answered else {},
        error_type="" if answered else draw(st.sampled_from(["ServerUnavailable", "BadReply"])),
        error="" if answered else draw(any_text),
        attempts=draw(st.integers(min_value=1, max_value=9)),
        seconds=draw(st.floats(min_value=0, max_value=900)),
        finished="2026-01-31T23:59:59.000+00:00",
    )
