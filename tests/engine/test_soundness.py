import pytest

from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import Scorer, ScoringMethod
from grace.engine.soundness import FaultKind, Inspected, Inspector
from grace.errors import QueryRejected, ServerUnavailable
from grace.inference.client import Rendered
from grace.inference.toy import ToyClient
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.prompts import Convention, Prompt, PromptMode


def query(*answers: str) -> ScoreQuery:
    probe = CandidateProbe(
        "sure", Turn(question="Is it so?"), tuple(Answer(text, (text,)) for text in answers)
    )
    return ScoreQuery(QueryKey("k"), probe, probe.turn)


async def inspect(
    *answers: str,
    client: ToyClient | None = None,
    prefix: str = "",
    context: int | None = None,
) -> Inspected:
    used = client or ToyClient()
    scorer = Scorer(used, PromptMode.CHAT, ScoringMethod.TRIE, Convention(prefix))
    return await Inspector(used, scorer, context).inspect(query(*answers))


def kinds(inspected: Inspected) -> list[FaultKind]:
    return [fault.kind for fault in inspected.faults]


async def test_a_sound_query_has_no_fault_and_shows_its_tokens() -> None:
    inspected = await inspect("yes", "no")
    assert inspected.sound
    assert inspected.rendered is not None
    assert [form.text for form in inspected.forms] == ["yes", "no"]
    assert all(form.token_ids for form in inspected.forms)


async def test_a_merge_is_shown_with_its_token_and_a_remedy() -> None:
    inspected = await inspect("yes", "no", prefix="Answer:")
    (fault,) = inspected.faults
    assert fault.kind is FaultKind.MERGE
    assert "'no' merges with the prompt's end" in fault.problem
    assert "the token ':n' (3) belongs to both" in fault.problem
    assert "answer_prefix" in str(fault)
    yes, no = inspected.forms
    assert yes.token_ids
    assert no.token_ids == ()


async def test_all_overlaps_are_named_with_their_tokens() -> None:
    inspected = await inspect("1", "10", "100", "5")
    # "00" is one token of the toy: "10" begins nothing.
    assert [fault.kind for fault in inspected.faults] == [FaultKind.OVERLAP] * 2
    assert "'1' (29) begin those of '10' (29, 28)" in inspected.faults[0].problem
    assert "'1' (29) begin those of '100' (29, 10)" in inspected.faults[1].problem
    assert "a full stop" in inspected.faults[0].remedy


async def test_an_empty_answer_is_a_fault() -> None:
    assert kinds(await inspect("", "no")) == [FaultKind.EMPTY]


@pytest.mark.parametrize(("context", "sound"), [(None, True), (14, True), (13, False)])
async def test_prompt_and_longest_answer_must_fit_together(
    context: int | None, *, sound: bool
) -> None:
    # <|user|>, 9 characters, <|end|>, <|assistant|>, and two tokens of the answer.
    inspected = await inspect("ab", "c", context=context)
    assert inspected.sound is sound
    assert kinds(inspected) == ([] if sound else [FaultKind.TOO_LONG])


class Template(ToyClient):
    """The toy with another beginning and end of its template."""

    def __init__(self, begin: str = "", end: str = "") -> None:
        super().__init__()
        self._begin, self._end = begin, end

    async def render(self, prompt: Prompt) -> Rendered:
        text = f"{self._begin}Is it so?{self._end}{prompt.answer_prefix}"
        return Rendered(text, await self.encode(text))


async def test_a_doubled_beginning_of_text_is_a_fault() -> None:
    doubled = await inspect("yes", "no", client=Template("<|user|><|user|>"))
    assert kinds(doubled) == [FaultKind.DOUBLED_BOS]
    assert (await inspect("yes", "no", client=Template("<|user|>"))).sound
    # Two equal letters are no beginning of text.
    assert (await inspect("yes", "no", client=Template("aa"))).sound


async def test_an_answer_prefix_that_changes_the_prompt_is_a_fault() -> None:
    inspected = await inspect("yes", client=Template(end=":"), prefix="next ")
    assert kinds(inspected) == [FaultKind.ANSWER_PREFIX]
    assert "'next ' changes the prompt's own tokens" in inspected.faults[0].problem
    assert (await inspect("yes", client=Template(end=":"), prefix=" Answer")).sound


class Refusing(ToyClient):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def render(self, prompt: Prompt) -> Rendered:
        raise self._error


async def test_a_prompt_that_the_server_refuses_is_a_fault() -> None:
    inspected = await inspect("yes", client=Refusing(QueryRejected("system role not supported")))
    assert kinds(inspected) == [FaultKind.REFUSED]
    assert "system role not supported" in inspected.faults[0].problem
    assert inspected.rendered is None


class Tokenless(ToyClient):
    """The toy, which renders but refuses to encode an answer."""

    async def encode(self, text: str) -> tuple[int, ...]:
        if text.endswith("yes"):
            raise QueryRejected("/tokenize: HTTP 413")
        return await super().encode(text)


async def test_an_answer_that_the_server_refuses_to_encode_is_a_fault() -> None:
    inspected = await inspect("yes", "no", client=Tokenless())
    assert kinds(inspected) == [FaultKind.REFUSED]
    assert "HTTP 413" in inspected.faults[0].problem


async def test_a_server_that_is_away_is_no_fault_of_the_query() -> None:
    with pytest.raises(ServerUnavailable):
        await inspect("yes", client=Refusing(ServerUnavailable("away")))
