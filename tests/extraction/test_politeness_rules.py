"""Study 2's fields: 80 responses that we wrote, and every utterance in many wrappings."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.extraction.politeness_rules import parse

FRAME = "Was/Wasn't"
ASSESSMENT = "Assessment"

RESPONSES: list[tuple[str, str | None, str | None]] = [
    ('"It was good."', "was", "good"),
    ("It wasn\u2019t bad.", "wasn't", "bad"),
    ("It was not amazing.", "wasn't", "amazing"),
    ("It wasnt good", "wasn't", "good"),
    ("IT WAS TERRIBLE!", "was", "terrible"),
    ("**It was good.**", "was", "good"),
    ("It [was] [good].", "was", "good"),
    ("It *wasn't* *terrible*.", "wasn't", "terrible"),
    ('Rosa would say: "It was good."', "was", "good"),
    ("Rosa would be most likely to say, 'It wasn't terrible.'", "wasn't", "terrible"),
    ("Rosa: It was amazing.", "was", "amazing"),
    ("She could say it was bad, but that would hurt Ali. 'It was good.'", "was", "good"),
    ("It wasn't terrible, it was good.", "wasn't", "terrible"),
    ("It was bad\u2014 no, it was good.", "was", "good"),
    ("It was bad. Actually, it was good.", "was", "good"),
    ("It was bad, no, good.", "was", "good"),
    ("It was okay.", "was", None),
    ("It was great!", "was", None),
    ("It wasn't great.", "wasn't", None),
    ("It was actually good.", "was", "good"),
    ("It wasn't that bad.", "wasn't", "bad"),
    ("It wasn't exactly amazing.", "wasn't", "amazing"),
    ("It was really amazing!", "was", "amazing"),
    ("It was neither good nor bad.", None, None),
    ("It is good.", None, "good"),
    ("It's not bad.", None, "bad"),
    ("Good.", None, "good"),
    ("", None, None),
    ("I don't know.", None, None),
    (
        '"It was terrible.", "It was bad.", "It was good.", "It was amazing.", "It wasn\'t terrible.", "It wasn\'t bad.", "It wasn\'t good.", "It wasn\'t amazing."',
        None,
        None,
    ),
    (
        'A speaker answers with one of these eight sentences: "It was terrible." "It was bad." "It was good." "It was amazing." "It wasn\'t terrible." "It wasn\'t bad." "It wasn\'t good." "It wasn\'t amazing." Rosa: "It wasn\'t bad."',
        "wasn't",
        "bad",
    ),
    ("It was/wasn't terrible/bad/good/amazing", None, None),
    ("It was good or it was bad.", None, None),
    ("It was good or bad.", None, None),
    ("Ken thought it was terrible, but he would say it was good.", "was", "good"),
    ("Ken thought it was terrible.", None, None),
    ("I thought it was good.", "was", "good"),
    ("I think it was amazing!", "was", "amazing"),
    ('Since it was bad, Rosa wants to be kind. "It wasn\'t terrible."', "wasn't", "terrible"),
    ("Instead of 'It was terrible', she would say 'It wasn't good'.", "wasn't", "good"),
    ("She would say 'It was good' rather than 'It was bad'.", "was", "good"),
    ("I wouldn't say it was bad.", None, None),
    ("The cake was good.", "was", "good"),
    ("Your cookie was amazing!", "was", "amazing"),
    ("Honestly, it wasn't good.", "wasn't", "good"),
    ("It was good. This sentence is kind but it was bad in truth.", "was", "good"),
    ('"It was good," said Rosa. "It was terrible," she thought.', "was", "good"),
    ("<think>It was bad? no</think>\nIt wasn't bad.", "wasn't", "bad"),
    ("<think>It was bad", None, None),
    ("The most likely answer is: It wasn't terrible.", "wasn't", "terrible"),
    ("Answer: It was bad", "was", "bad"),
    (
        'The speaker would be most likely to say "It was amazing." because 0 hearts means it was terrible.',
        "was",
        "amazing",
    ),
    ("It wasn't just good, it was amazing.", "was", "amazing"),
    ("It was a good movie.", "was", "good"),
    ("It was good, not amazing.", "was", "good"),
    ("it was bad", "was", "bad"),
    ("`It was good.`", "was", "good"),
    ('It was "good".', "was", "good"),
    ("Well... it wasn't amazing.", "wasn't", "amazing"),
    ("It was 2 hearts.", None, None),
    ("\u201cIt wasn\u2019t amazing.\u201d", "wasn't", "amazing"),
    ("It was good.\n\nIt was terrible.\n\nIt was bad.", None, None),
    ("It was so bad!", "was", "bad"),
    ("Lena said it was good.", "was", "good"),
    ("Rosa wants to be honest, so she says it was bad.", "was", "bad"),
    ("It was well done.", "was", None),
    ("Your painting wasn't good, Piet.", "wasn't", "good"),
    ('2 hearts means it was good. So Rosa would say "It was good."', "was", "good"),
    ("Yes, it was good!", "was", "good"),
    ("It was not terrible, but it was not good either.", "wasn't", "terrible"),
    ("Rosa might say 'It was good.'", "was", "good"),
    ("It was... good.", "was", "good"),
    ("Hi Ali! It wasn't bad.", "wasn't", "bad"),
    ("It wasn't good.\nExplanation: Rosa felt it was terrible.", "wasn't", "good"),
    ("It was badly done", "was", None),
    ('To make him feel good, she says: "It was amazing."', "was", "amazing"),
    ("Oh, your recital? It was amazing!", "was", "amazing"),
    # What small models wrote around their answers.
    ('The first reply, "It was terrible.", is sad, and the other, "It was bad.", too.', None, None),
    ("It is possible for Rosa to say that it was good.", None, None),
    ('"I was so happy that I could sing this song."', None, None),
    (
        '"It wasn\'t bad."\n\nIf Rosa were cruel, what would she say?\nAnswer: "It was bad."',
        "wasn't",
        "bad",
    ),
    ('"It was good."\nAnswer: "It was terrible."', "was", "good"),
    ('"It was amazing." Or was it? Rosa would say: "It was bad."', "was", "bad"),
    ("I am sorry, it was too good to eat.", "was", None),
    ("She said that it wasn't bad or that it wasn't amazing.", "wasn't", "bad"),
]


@pytest.mark.parametrize(("response", "frame", "assessment"), RESPONSES)
def test_the_utterance_is_what_the_speaker_would_say(
    response: str, frame: str | None, assessment: str | None
) -> None:
    values = parse(response).values
    assert (values[FRAME], values[ASSESSMENT]) == (frame, assessment)


UTTERANCES = st.tuples(
    st.sampled_from([("was", "was"), ("wasn't", "wasn't"), ("wasn't", "was not")]),
    st.sampled_from(["terrible", "bad", "good", "amazing"]),
    st.sampled_from(["", "really ", "actually ", "that ", "pretty "]),
)
WRAPPINGS = [
    "{}",
    "{}.",
    '"{}."',
    '"{}".',
    "'{}.'",
    "\u201c{}.\u201d",
    "**{}**",
    "*{}*",
    "`{}`",
    "Rosa: {}.",
    'Rosa would say, "{}."',
    'Rosa would be most likely to say: "{}."',
    "Answer: {}",
    'He felt that it was bad, but Rosa would say "{}!"',
    "The speaker could say it was bad, but that would hurt. '{}.'",
    "<think>It was bad. It was good.</think>\n\n{}.",
    "{}. This is honest, although it was bad.",
    '"{}," said Rosa.',
    "It was bad - no, {}.",
    'A: "It was terrible." B: "It was bad." C: "It was good." Rosa would say: "{}."',
]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@given(utterance=UTTERANCES)
def test_every_utterance_in_every_wrapping_is_read_back(
    wrapping: str, utterance: tuple[tuple[str, str], str, str]
) -> None:
    (frame, written), assessment, adverb = utterance
    parsed = parse(wrapping.format(f"It {written} {adverb}{assessment}"))
    assert (parsed.values[FRAME], parsed.values[ASSESSMENT]) == (frame, assessment)
    assert parsed.complete
    assert parsed.problems == ()


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ('"It was good."', "It was good."),
        ('"It was good".', "It was good."),
        ("'It wasn't good.'", "It wasn't good."),
        ("\u201cIt wasn\u2019t good.\u201d", "It wasn\u2019t good."),
        ("  It was good.\n", "It was good."),
        ('Rosa: "It was good."', 'Rosa: "It was good."'),
        ('"It was," she said, "good."', '"It was," she said, "good."'),
        ("I do not know.", "I do not know."),
        ("<think>Hm.</think>It was bad.", "It was bad."),
        ("", None),
        ('""', None),
        (" \n ", None),
    ],
)
def test_the_text_is_kept_without_its_wrapping_quotes(response: str, text: str | None) -> None:
    assert parse(response).values["response_text"] == text


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        ("", "Was/Wasn't, Assessment: there is no answer"),
        ("It is good.", "Was/Wasn't: the text states neither was nor wasn't"),
        (
            "It was nice.",
            "Assessment: the text states none of terrible, bad, good and amazing after was or "
            "wasn't",
        ),
        (
            "It was good. It was bad. It wasn't good.",
            "Was/Wasn't, Assessment: the text lists several answers and chooses none",
        ),
        ("Hello!", "Was/Wasn't, Assessment: the text states no utterance with was or wasn't"),
    ],
)
def test_what_is_not_stated_is_explained(response: str, problem: str) -> None:
    parsed = parse(response)
    assert parsed.problems == (problem,)
    assert not parsed.complete


PIECES = st.sampled_from(
    [
        "it",
        "was",
        "wasn't",
        "not",
        "good",
        "bad",
        ".",
        ",",
        '"',
        "'",
        "she",
        "would",
        "say:",
        "thought",
        "or",
        "/",
        "no",
        "nice",
        "is",
        "\n",
    ]
)


@given(st.lists(PIECES, max_size=30).map(" ".join))
def test_no_field_holds_a_word_that_the_text_lacks(text: str) -> None:
    values = parse(text).values
    assert values[ASSESSMENT] is None or str(values[ASSESSMENT]) in text
    assert values[FRAME] is None or "was" in text
    assert values[FRAME] != "wasn't" or "n't" in text or "not" in text


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    assert list(parse(text).values) == [FRAME, ASSESSMENT, "response_text"]


@pytest.mark.parametrize("piece", ["a", " ", "\n", '"', "'", "good or "])
def test_a_million_characters_are_read_without_harm(piece: str) -> None:
    assert parse(piece * (1_000_000 // len(piece))).values[ASSESSMENT] is None


@pytest.mark.parametrize(
    "piece", ["it was ", "would say ", "it was good or ", "it was good. ", "'it was bad' ", "no, "]
)
def test_no_repetition_makes_reading_slow(piece: str) -> None:
    short, long = (_seconds(piece * (size // len(piece))) for size in (10_000, 40_000))
    assert long < 12 * short + 0.1


def _seconds(text: str) -> float:
    before = time.process_time()
    parse(text)
    return time.process_time() - before
