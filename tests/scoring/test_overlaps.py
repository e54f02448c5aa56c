import itertools

from hypothesis import given
from hypothesis import strategies as st

from grace.scoring.overlaps import begins, excluded_by, overlaps
from grace.scoring.variants import variants_of
from strategies import prefix_free, token_ids

sequences = st.lists(st.lists(token_ids, max_size=3).map(tuple), max_size=8)


def exclude_each_other(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return not begins(one, other) and not begins(other, one)


@given(prefix_free())
def test_answers_that_exclude_each_other_have_no_overlap(found: list[tuple[int, ...]]) -> None:
    assert overlaps(found) == []


@given(sequences)
def test_every_overlap_is_found_once(found: list[tuple[int, ...]]) -> None:
    pairs = overlaps(found)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    expected = {
        frozenset((i, j))
        for i, j in itertools.combinations(range(len(found)), 2)
        if found[i] and found[j] and not exclude_each_other(found[i], found[j])
    }
    assert {frozenset(pair) for pair in pairs} == expected
    assert all(begins(found[i], found[j]) for i, j in pairs)


@given(prefix_free(), sequences)
def test_what_is_kept_excludes_the_set_and_itself(
    known: list[tuple[int, ...]], wanted: list[tuple[int, ...]]
) -> None:
    kept = [wanted[position] for position in excluded_by(wanted, known)]
    for one, other in itertools.combinations([*known, *kept], 2):
        assert exclude_each_other(one, other)
    for sequence in wanted:
        # Nothing is left out without a reason.
        assert sequence in kept or not all(
            sequence and exclude_each_other(sequence, other) for other in [*known, *kept]
        )


@given(st.lists(st.text(max_size=4), min_size=1, max_size=4))
def test_a_variant_is_never_a_form_and_never_given_twice(forms: list[str]) -> None:
    texts = [variant.text for variant in variants_of("label", forms)]
    assert len(set(texts)) == len(texts)
    assert not set(texts) & set(forms)


def test_numbers_are_also_looked_for_as_words() -> None:
    words = [one.text for one in variants_of("3", ("3",)) if one.kind == "number word"]
    assert words == ["three", "Three"]


def test_a_sentence_is_also_looked_for_with_a_small_letter_and_a_full_stop() -> None:
    texts = [one.text for one in variants_of("was good", ("It was good",))]
    assert "it was good" in texts
    assert "It was good." in texts
