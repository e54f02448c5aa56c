"""Every answer of both studies, behind every family's real template, as real tokens."""

import datetime
from pathlib import Path

import pytest

from conventions.client import TODAY
from conventions.conftest import named
from conventions.families import FAMILIES, Family
from grace.engine.plan import ScoreQuery, plan_scores
from grace.engine.score import Scorer, ScoringMethod
from grace.errors import QueryRejected, ScoringError, TokenBoundaryError, UnsupportedByServer
from grace.inference.client import Rendered
from grace.pipeline.inputs import load_inputs
from grace.scoring.candidates import CandidateSet
from grace.settings import RunSettings
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.prompts import Message, Prompt, PromptMode, build_prompt

pytestmark = pytest.mark.tokenizers

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "answer-positions.md"
QUESTION = Turn(context="A story.", question="Is it so?")
BOS_ADDED = "BOS added"
both_encodings = pytest.mark.parametrize("encoding", ["BOS in the text", BOS_ADDED])


def queries(rows: int = 2) -> list[ScoreQuery]:
    return [
        query
        for trials in load_inputs(RunSettings(limit=rows))
        for query in plan_scores(trials).queries
    ]


def probe(*forms: str) -> CandidateProbe:
    return CandidateProbe("asked", QUESTION, tuple(Answer(form, (form,)) for form in forms))


def scorer_of(family: Family) -> Scorer:
    return Scorer(family.client(), family.mode, ScoringMethod.TRIE, family.convention)


async def encoded(family: Family, *forms: str) -> CandidateSet:
    prompt = build_prompt([QUESTION], [], family.mode, family.convention)
    rendered = await family.client().render(prompt)
    return await scorer_of(family).encode_candidates(probe(*forms), prompt, rendered)


def pieces(family: Family, candidates: CandidateSet, label: str) -> list[str]:
    ids = candidates.canonical(label).token_ids
    return [family.client().vocabulary.decode([token]) for token in ids]


@both_encodings
async def test_every_answer_set_of_both_studies_has_the_tokens_of_its_own_text(
    family: Family, encoding: str
) -> None:
    client = family.client(adds_bos=encoding == BOS_ADDED)
    scorer = Scorer(client, family.mode, ScoringMethod.TRIE, family.convention)
    for query in queries():
        prompt = build_prompt([query.turn], [], family.mode, family.convention)
        rendered = await client.render(prompt)
        candidates = await scorer.encode_candidates(query.probe, prompt, rendered)
        for form in candidates.forms:
            whole = await client.encode(rendered.text + form.text)
            assert whole == (*rendered.token_ids, *form.token_ids)
            decoded = client.vocabulary.decode(form.token_ids)
            assert decoded == form.text


@both_encodings
async def test_no_prompt_begins_with_two_bos(family: Family, encoding: str) -> None:
    client = family.client(adds_bos=encoding == BOS_ADDED)
    prompt = build_prompt([QUESTION], [], family.mode, family.convention)
    ids = (await client.render(prompt)).token_ids
    bos = client.vocabulary.encode("", special=True)
    assert not bos or (ids[0], ids[1] == bos[0]) == (bos[0], False)


async def test_an_answer_follows_header_and_prefix(family: Family) -> None:
    prompt = build_prompt([QUESTION], [], family.mode, family.convention)
    text = (await family.client().render(prompt)).text
    end = family.header + family.convention.answer_prefix if family.header else "Answer:"
    assert text.endswith(f"Is it so?{end}") or text.endswith(end)
    assert "A story." in text.removesuffix(end)


async def test_the_question_of_an_earlier_turn_and_its_answer_are_in_the_prompt(
    family: Family,
) -> None:
    prompt = build_prompt([QUESTION, QUESTION], ["Seven."], family.mode, family.convention)
    text = (await family.client().render(prompt)).text
    assert text.count("Is it so?") == 2
    assert text.index("Is it so?") < text.index("Seven.") < text.rindex("Is it so?")


async def test_the_end_of_turn_is_one_token_which_text_cannot_merge_with(family: Family) -> None:
    if family.mode is PromptMode.COMPLETION:
        assert family.convention.end_of_turn == ""
        return
    client = family.client()
    end = family.convention.end_of_turn
    (token,) = await client.encode(end)
    for before in ("no", "No.", "100%", "It wasn't bad", " ", "\n"):
        assert (await client.encode(before + end))[-1] == token
    turns = [Message("user", "Is it so?"), Message("assistant", "Seven.")]
    after = client.chat(turns, answer_next=False).partition("Seven.")[2]
    # gpt-oss ends an answer in its history otherwise than when it generates one.
    assert after.startswith("<|end|>" if family.name == "gpt-oss" else end)


@pytest.mark.parametrize("name", ["Llama 3", "gpt-oss"])
async def test_no_behind_a_colon_is_one_token_and_refused(name: str) -> None:
    family = named(name)
    client = family.client()
    assert ":no" in client.vocabulary.pieces("Answer:no")
    scorer = Scorer(client, PromptMode.COMPLETION, ScoringMethod.TRIE)
    bare = Prompt(text="Is it so?\nAnswer:")
    rendered = await client.render(bare)
    with pytest.raises(TokenBoundaryError, match=r"answer 'no' after '.*Answer:'"):
        await scorer.encode_candidates(probe("yes", "no"), bare, rendered)
    # As Grace lays plain text out, a space stands between.
    prompt = build_prompt([QUESTION], [], PromptMode.COMPLETION)
    spaced = await scorer.encode_candidates(probe("yes", "no"), prompt, await client.render(prompt))
    assert [form.text for form in spaced.forms] == [" yes", " no"]
    assert [len(form.token_ids) for form in spaced.forms] == [1, 1]


async def test_the_separator_of_deepseek_v2_keeps_answers_from_the_colon() -> None:
    family = named("DeepSeek V2")
    assert [form.text for form in (await encoded(family, "yes", "no")).forms] == [" yes", " no"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama 3", ["100", "%"]),
        ("Llama 3.1", ["100", "%"]),
        ("Gemma 2", ["1", "0", "0", "%"]),
        ("Gemma 3", ["1", "0", "0", "%"]),
        ("gpt-oss", ["100", "%"]),
        ("DeepSeek V3", ["100", "%"]),
        ("GPT-2", [" 100", "%"]),
    ],
)
async def test_numbers_are_cut_differently_and_a_percent_sign_keeps_them_apart(
    name: str, expected: list[str]
) -> None:
    family = named(name)
    candidates = await encoded(family, "0%", "10%", "100%")
    assert pieces(family, candidates, "100%") == expected


async def test_bare_numbers_are_refused_where_digits_are_tokens_and_accepted_elsewhere() -> None:
    for name in ("Gemma 1", "Gemma 2", "Gemma 3", "Gemma 3 base"):
        with pytest.raises(ScoringError, match="begin those of"):
            await encoded(named(name), "10", "100")
    for name in ("Llama 3", "gpt-oss", "DeepSeek V3", "GPT-2"):
        assert len((await encoded(named(name), "10", "100")).forms) == 2


@pytest.mark.parametrize("apostrophe", ["'", "’"])  # noqa: RUF001 (the curly one is meant)
async def test_both_apostrophes_have_tokens_of_their_own(family: Family, apostrophe: str) -> None:
    forms = [f"It wasn{apostrophe}t {word}" for word in ("terrible", "bad", "good", "amazing")]
    candidates = await encoded(family, *forms, "It was good")
    for form in forms:
        text = candidates.canonical(form).text
        assert family.client().vocabulary.decode(candidates.canonical(form).token_ids) == text


async def test_answers_with_a_leading_space_are_other_tokens(family: Family) -> None:
    candidates = await encoded(family, "yes", " yes")
    bare, spaced = candidates.forms
    assert bare.token_ids != spaced.token_ids


async def test_an_answer_that_begins_with_a_line_break_is_refused_where_the_header_ends_so() -> (
    None
):
    for name in ("Llama 3", "Gemma 2", "DeepSeek R1"):
        with pytest.raises(TokenBoundaryError):
            await encoded(named(name), "yes", "\nno")


async def test_chats_are_encoded_once_where_the_header_begins_with_a_control_token() -> None:
    for name, shared in (("Llama 3", True), ("gpt-oss", True), ("DeepSeek V2", False)):
        family = named(name)
        client = family.client()
        scorer = Scorer(client, family.mode, ScoringMethod.TRIE, family.convention)
        counts = []
        for question in ("First?", "Second?", "Third?"):
            prompt = build_prompt([Turn(question)], [], family.mode, family.convention)
            rendered = await client.render(prompt)
            before = client.encodings
            await scorer.encode_candidates(probe("yes", "no"), prompt, rendered)
            counts.append(client.encodings - before)
        assert counts[1:] == ([0, 0] if shared else [2, 2])


@pytest.mark.parametrize("name", ["Gemma 1", "Gemma 2"])
async def test_gemma_has_no_system_role_and_is_sent_none(name: str) -> None:
    client = named(name).client()
    with pytest.raises(QueryRejected, match="System role not supported"):
        await client.render(Prompt(messages=(Message("system", "x"), Message("user", "y"))))


@pytest.mark.parametrize("name", ["gpt-oss", "Llama 3.1"])
async def test_a_template_with_the_date_gives_the_same_prompt_on_every_day(name: str) -> None:
    family = named(name)
    prompt = build_prompt([QUESTION], [], family.mode, family.convention)
    tomorrow = TODAY + datetime.timedelta(days=1)

    async def on(day: datetime.date, *, pinned: bool) -> Rendered:
        return await family.client(pinned=pinned, today=day).render(prompt)

    assert await on(TODAY, pinned=False) != await on(tomorrow, pinned=False)
    assert await on(TODAY, pinned=True) == await on(tomorrow, pinned=True)
    assert family.date is not None
    assert (
        family.date.written.format(date=family.date.pinned) in (await on(TODAY, pinned=True)).text
    )
    before, after = await on(TODAY, pinned=False), await on(TODAY, pinned=True)
    assert len(before.text) == len(after.text)


async def test_only_the_templates_own_date_is_pinned() -> None:
    family = named("gpt-oss")
    said = "Current date: 1999-12-31\nIs it so?"
    text = (await family.client().render(Prompt(messages=(Message("user", said),)))).text
    assert said in text
    assert "Current date: 2025-08-05\n" in text


async def test_a_date_that_no_template_writes_is_refused() -> None:
    date = named("gpt-oss").date
    assert date is not None
    with pytest.raises(UnsupportedByServer, match="template_date"):
        date.pin(named("Llama 3").client().chat([Message("user", "Hi")]), [])


async def test_a_prefix_that_begins_with_text_changes_a_header_that_ends_with_text() -> None:
    # The two line breaks are one token: the template's own would be lost.
    family = named("DeepSeek R1")
    client = family.client()
    bare = await client.render(Prompt(messages=(Message("user", "Is it so?"),)))
    for prefix, kept in (("</think>\n\n", True), ("\n</think>\n\n", False)):
        joined = await client.encode(bare.text + prefix)
        assert (joined[: len(bare.token_ids)] == bare.token_ids) is kept


def test_the_page_on_answer_positions_has_these_headers_and_ends() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for one in FAMILIES:
        if one.mode is PromptMode.CHAT and one.key:
            row = next(line for line in page.splitlines() if line.startswith(f"| {one.name} "))
            assert f"`{_written(one.header)}`" in row
            assert f"`{_written(one.convention.end_of_turn)}`" in row
            for part in (one.convention.answer_prefix, one.convention.answer_separator):
                assert not part or f"`{_written(part)}`" in row


def _written(text: str) -> str:
    return "space" if text == " " else text.replace("\n", "\\n").replace("|", "\\|")
