"""The linter takes any JSON for objects: it finds fault, and never falls over."""

import json
from typing import Any

from good_set import good_set
from hypothesis import given
from hypothesis import strategies as st

from grace.cluster.policies import lint
from grace.cluster.profile import load_profile

NRP = load_profile("nrp")
GOOD = json.dumps(list(good_set().values()))

scalars = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "1Gi", "$(A)/2"])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "spec", "matchLabels", "to", "ports", "port", "env", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a document: container and key."""
    found: list[tuple[Any, Any]] = []
    pairs = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    for key, inner in pairs:
        found.append((value, key))
        found += places(inner)
    return found


COUNT = len(places(json.loads(GOOD)))


@given(
    changes=st.lists(st.tuples(st.integers(0, COUNT - 1), anything), min_size=1, max_size=4),
)
def test_a_good_set_with_anything_anywhere_never_makes_it_fall_over(
    changes: list[tuple[int, Any]],
) -> None:
    objects = json.loads(GOOD)
    spots = places(objects)
    for number, value in changes:
        holder, key = spots[number]
        holder[key] = value
    kept = [it for it in objects if isinstance(it, dict)]
    before = json.dumps(kept)
    for finding in lint(kept, NRP):
        assert finding.rule in str(finding)
    assert json.dumps(kept) == before


@given(
    st.lists(st.dictionaries(st.sampled_from(["kind", "metadata", "spec"]), anything), max_size=3)
)
def test_any_objects_are_read(objects: list[dict[str, Any]]) -> None:
    assert lint(objects, NRP) == lint(objects, NRP)
