from hypothesis import given
from hypothesis import strategies as st

from grace.engine.places import Places
from grace.engine.queries import QueryKey

digests = st.integers(min_value=0, max_value=2**128 - 1).map(lambda number: f"{number:032x}")
# Few slots for many keys, digests that differ in one half only, and keys that are none.
close = st.tuples(st.integers(0, 3), st.integers(0, 200)).map(lambda n: f"{n[0]:016x}{n[1]:016x}")
keys = (digests | close | st.text(max_size=3)).map(QueryKey)


@given(st.lists(st.tuples(keys, st.integers(min_value=0, max_value=2**64 - 1))))
def test_it_is_a_dictionary(pairs: list[tuple[QueryKey, int]]) -> None:
    places, known = Places(), dict[QueryKey, int]()
    for key, number in pairs:
        assert places.get(key) == known.get(key)
        places.set(key, number)
        known[key] = number
    assert list(places) == list(known)
    assert len(places) == len(known)
    assert all(places.get(key) == number for key, number in known.items())


def test_many_keys_are_all_found_again() -> None:
    places = Places()
    made = [QueryKey(f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}") for number in range(5_000)]
    for number, key in enumerate(made):
        places.set(key, number)
    assert [places.get(key) for key in made] == list(range(5_000))
    assert places.get(QueryKey("f" * 32)) is None
