"""The numbers of the gateway: those of the scorer, or none."""

import json
import math
from typing import Any

import pytest

from gateway import CHAT, PATH, TEXT, TOY_MODEL, ask, plain_app, toy_app, toy_service
from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import Scorer, ScoringMethod
from grace.errors import UnsupportedByServer
from grace.inference.client import Capabilities
from grace.inference.toy import ToyClient
from grace.scoring.distribution import distribution
from grace.serving.gateway.app import make_app
from grace.serving.gateway.messages import MAX_FORMS
from grace.serving.gateway.service import ServedModel
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.prompts import Convention, PromptMode

YES_NO = [{"label": "yes", "forms": ["yes", "Yes"]}, {"label": "no", "forms": ["no", "No"]}]


async def measured(body: Any, **options: Any) -> Any:
    reply = await ask(toy_app(**options) if options else plain_app(), body)
    assert reply.status == 200, reply.body
    return reply.json()


async def refused(body: Any, status: int = 422, **options: Any) -> Any:
    reply = await ask(toy_app(**options) if options else plain_app(), body)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:grace:problem:")
    assert "probability" not in problem
    return problem


@pytest.mark.parametrize("method", ["auto", "trie", "sequence"])
async def test_a_chat_gets_the_numbers_of_a_run(method: str) -> None:
    probe = CandidateProbe(
        "sure",
        Turn(question="Is it so?"),
        (Answer("yes", ("yes", "Yes")), Answer("no", ("no", "No"))),
    )
    stored: Any = await Scorer(ToyClient(), PromptMode.CHAT, ScoringMethod.TRIE).score(
        ScoreQuery(QueryKey("k"), probe, probe.turn)
    )
    expected = distribution(
        ["yes", "no"],
        {
            label: [sum(form["logprobs"]) for form in stored["forms"] if form["label"] == label]
            for label in ("yes", "no")
        },
    )

    actual = await measured(
        {"messages": CHAT["messages"], "candidates": YES_NO, "options": {"method": method}}
    )

    assert [one["logprob"] for one in actual["candidates"]] == list(expected.logprobs)
    assert [one["probability"] for one in actual["candidates"]] == list(expected.probabilities)
    assert actual["coverage"] == expected.coverage
    assert actual["entropy_bits"] == expected.entropy_bits()
    assert actual["prompt"]["content_sha256"] == stored["prompt_sha256"]
    assert actual["prompt"]["tokens"] == stored["prompt_tokens"]
    tokens = actual["candidates"][0]["forms"][1]["tokens"]
    assert [token["text"] for token in tokens] == ["Y", "e", "s"]
    assert [token["id"] for token in tokens] == stored["forms"][1]["token_ids"]
    assert [token["logprob"] for token in tokens] == stored["forms"][1]["logprobs"]


async def test_a_text_is_continued_after_one_space_by_default() -> None:
    actual = await measured(TEXT)
    assert actual["candidates"][0]["forms"][0]["text"] == " blue"
    assert actual["prompt"]["answer_separator"] == " "
    assert actual["prompt"]["mode"] == "completion"

    same = await measured(
        {
            "prompt": "The sky is",
            "candidates": [" blue", " green"],
            "options": {"answer_separator": ""},
        }
    )
    assert [one["logprob"] for one in same["candidates"]] == [
        one["logprob"] for one in actual["candidates"]
    ]


@pytest.mark.parametrize(
    ("prompt", "candidates"), [("The sky is ", ["blue"]), ("The sky is", ["red", " blue"])]
)
async def test_a_space_too_many_is_refused_unless_it_is_asked_for(
    prompt: str, candidates: list[str]
) -> None:
    body = {"prompt": prompt, "candidates": candidates}
    problem = await refused(body)
    assert problem["faults"][0]["pointer"] == "/options/answer_separator"
    await measured({**body, "options": {"answer_separator": " "}})


async def test_values_give_a_mean_and_a_standard_deviation() -> None:
    candidates = [{"label": f"{n}%", "value": n} for n in (0, 50, 100)]
    actual = await measured({"messages": CHAT["messages"], "candidates": candidates})
    shares = [one["probability"] for one in actual["candidates"]]
    assert math.isclose(sum(shares), 1)
    mean = 50 * shares[1] + 100 * shares[2]
    assert math.isclose(actual["mean"], mean)
    variance = sum(p * (v - mean) ** 2 for p, v in zip(shares, (0, 50, 100), strict=True))
    assert math.isclose(actual["std"], math.sqrt(variance))
    plain = await measured(CHAT)
    assert plain["mean"] is None
    assert plain["std"] is None


async def test_the_largest_values_have_a_finite_mean() -> None:
    candidates = [{"label": "a.", "value": 1e100}, {"label": "b.", "value": -1e100}]
    actual = await measured({"prompt": "Choose", "candidates": candidates})
    assert math.isfinite(actual["mean"])
    assert math.isfinite(actual["std"])


async def test_tokens_are_left_out_on_request() -> None:
    actual = await measured({**CHAT, "options": {"token_detail": False}})
    assert all(form["tokens"] is None for one in actual["candidates"] for form in one["forms"])


async def test_an_answer_prefix_is_put_before_the_answers() -> None:
    model = ServedModel("toy", PromptMode.CHAT, convention=Convention("So: "))
    default = await measured(CHAT, model=model)
    assert default["prompt"]["answer_prefix"] == "So: "
    given = await measured({**CHAT, "options": {"answer_prefix": ""}}, model=model)
    assert given["prompt"]["tokens"] < default["prompt"]["tokens"]
    assert given["prompt"]["sha256"] != default["prompt"]["sha256"]


@pytest.mark.parametrize(
    "candidates",
    [
        ["ja", "nein", "weiß nicht"],
        ["是", "不"],
        ["😀.", "\u200b!", "\u0301?"],
        ["It wasn't bad", "It was bad"],
        ["0%", "10%", "100%"],
        ['"', "\\", "\n"],
    ],
)
async def test_awkward_candidates_keep_their_text(candidates: list[str]) -> None:
    # The toy has one token for all that it does not know.
    known = [text if text.isascii() else f"{n}: {text}" for n, text in enumerate(candidates)]
    actual = await measured({"messages": CHAT["messages"], "candidates": known})
    assert [one["label"] for one in actual["candidates"]] == known
    assert [one["forms"][0]["text"] for one in actual["candidates"]] == known


async def test_a_merge_at_the_seam_is_refused_with_candidate_token_and_remedy() -> None:
    problem = await refused(
        {
            "prompt": "Answer:",
            "candidates": ["yes", "no"],
            "options": {"answer_separator": ""},
        }
    )
    assert problem["type"] == "urn:grace:problem:unscorable-candidates"
    (fault,) = problem["faults"]
    assert fault["candidate"] == fault["form"] == "no"
    assert [token["text"] for token in fault["tokens"]] == [":n"]
    assert "the seam falls inside a token ':n'" in fault["message"]
    assert "answer_separator" in fault["remedy"]


async def test_an_answer_that_begins_another_is_refused() -> None:
    problem = await refused(
        {"messages": CHAT["messages"], "candidates": ["good", "goodness", "bad"]}
    )
    (fault,) = problem["faults"]
    assert fault["candidate"] == "good"
    assert "begin those of 'goodness'" in fault["message"]
    assert [token["text"] for token in fault["tokens"]] == ["g", "oo", "d"]
    assert "ending" in fault["remedy"]


async def test_two_texts_of_the_same_tokens_are_refused() -> None:
    problem = await refused({"messages": CHAT["messages"], "candidates": ["é", "ü"]})
    assert "are those of" in problem["faults"][0]["message"]


@pytest.mark.parametrize(
    ("candidates", "pointer", "says"),
    [
        ([], "/candidates", "at least 1"),
        ([""], "/candidates/0", "at least 1 character"),
        ([3], "/candidates/0", "expected an object"),
        ([None], "/candidates/0", "expected an object"),
        ("yes", "/candidates", "list"),
        (["yes", "yes"], "/candidates/1", "also that of candidate 0"),
        (["yes", {"label": "ja", "forms": ["yes"]}], "/candidates/1", "given twice"),
        ([{"label": "a", "forms": ["a", "a"]}], "/candidates/0", "given twice"),
        ([{"label": "a", "forms": []}], "/candidates/0/forms", "at least 1"),
        ([{"label": "a", "value": 1}, "b"], "/candidates/1", "has no value"),
        ([{"label": "a", "value": "1"}], "/candidates/0/value", "number"),
        ([{"label": "a", "value": True}], "/candidates/0/value", "number"),
        ([{"label": "a", "value": 1e101}], "/candidates/0/value", "less than"),
        ([{"label": "a", "value": 10**400}], "/candidates/0/value", ""),
        ([{"label": "a", "text": "chat"}], "/candidates/0/text", "not known"),
        (["\ud800"], "/candidates/0", "unicode"),
        (["x" * 1001], "/candidates/0", "at most 1000"),
        ([f"{n}." for n in range(257)], "/candidates", "at most 256"),
        (
            [{"label": str(n), "forms": [f"{n}-{m}" for m in range(32)]} for n in range(17)],
            "/candidates",
            f"at most {MAX_FORMS} are scored",
        ),
    ],
)
async def test_a_set_that_is_none_is_refused_with_its_place(
    candidates: Any, pointer: str, says: str
) -> None:
    problem = await refused({"prompt": "It is", "candidates": candidates})
    assert problem["type"] == "urn:grace:problem:invalid-request"
    fault = problem["faults"][0]
    assert fault["pointer"] == pointer
    assert says in fault["message"]


async def test_a_thousand_faults_make_a_short_reply() -> None:
    reply = await ask(plain_app(), {"prompt": "It is", "candidates": ["x" * 900] * 250})
    problem = reply.json()
    assert len(problem["faults"]) == 20
    assert "(and 497 more)" in problem["detail"]


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"messages": []}, "/messages", "at least 1"),
        ({"prompt": "And"}, "/prompt", "not both"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "/messages/0/role", "nothing to"),
        (
            {"messages": [CHAT["messages"][0], {"role": "system", "content": "x"}]},
            "/messages/1/role",
            "last message",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "/messages/0/role", "expected"),
        ({"options": {"method": "guess"}}, "/options/method", "expected 'auto'"),
        ({"options": {"methods": "trie"}}, "/options/methods", "not known"),
        ({"~/é": 1}, "/~0~1é", "not known"),
        ({"\ud800": 1}, "", "string"),
    ],
)
async def test_a_chat_that_is_none_is_refused_with_its_place(
    change: Any, pointer: str, says: str
) -> None:
    fault = (await refused({**CHAT, **change}))["faults"][0]
    assert fault["pointer"] == pointer
    assert says in fault["message"]


async def test_a_request_needs_a_prompt_or_messages() -> None:
    problem = await refused({"candidates": ["a"]})
    assert problem["faults"][0]["message"] == "give a prompt (a text) or messages (a chat)"


async def test_a_text_takes_no_answer_prefix() -> None:
    problem = await refused({**TEXT, "options": {"answer_prefix": "So"}})
    assert problem["faults"][0]["pointer"] == "/options/answer_prefix"


async def test_a_base_model_takes_texts_only() -> None:
    model = ServedModel("gpt2", PromptMode.COMPLETION)
    assert "no chat template" in (await refused(CHAT, model=model))["detail"]
    await measured(TEXT, model=model)


async def test_a_system_message_needs_a_template_that_knows_it() -> None:
    body = {**CHAT, "messages": [{"role": "system", "content": "Be brief."}, *CHAT["messages"]]}
    await measured(body)
    problem = await refused(body, model=ServedModel("gemma", PromptMode.CHAT))
    assert "gemma knows no system role" in problem["detail"]


class Partly(ToyClient):
    """The toy, without one of the ways to score, and without texts of tokens."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            token_ids=True, next_token=False, sequence=True, json_schema=False, seed=False
        )

    async def decode(self, token_ids: object) -> str:
        raise UnsupportedByServer("no texts")


async def test_a_method_that_the_server_lacks_is_refused_and_auto_takes_the_other() -> None:
    problem = await refused({**TEXT, "options": {"method": "trie"}}, client=Partly())
    assert problem["type"] == "urn:grace:problem:unsupported-method"
    actual = await measured(TEXT, client=Partly())
    assert actual["method"] == "sequence"
    assert actual["candidates"][0]["forms"][0]["tokens"][0]["text"] is None


class Masked(ToyClient):
    """A server whose probabilities do not belong together."""

    async def sequence_logprobs(self, prompt: Any, continuations: Any) -> list[tuple[float, ...]]:
        return [(-0.1,) * len(one) for one in continuations]


async def test_numbers_that_do_not_fit_together_are_no_answer() -> None:
    body = {
        "prompt": "It is",
        "candidates": ["a", "b", "c"],
        "options": {"method": "sequence", "answer_separator": ""},
    }
    problem = await refused(body, 502, client=Masked())
    assert problem["type"] == "urn:grace:problem:bad-server-reply"


async def test_a_prompt_beyond_the_context_is_refused() -> None:
    problem = await refused({**TEXT, "prompt": "x" * 50}, client=ToyClient(max_tokens=20))
    assert problem["type"] == "urn:grace:problem:rejected-by-server"
    assert "exceed the context" in problem["detail"]


async def test_remembered_encodings_are_bounded() -> None:
    service = toy_service()
    app = make_app(service)
    for number in range(40):
        body = {**CHAT, "options": {"answer_prefix": f"{number} "}}
        assert (await ask(app, body)).status == 200
    assert len(service._scorers) <= 16


async def test_who_answers_is_told() -> None:
    reply = await ask(plain_app(), method="GET", path="/v1/model")
    told = reply.json()
    assert told["model"]["key"] == TOY_MODEL.key
    assert told["methods"] == ["trie", "sequence"]
    assert told["limits"]["max_forms"] == MAX_FORMS


async def test_the_reply_is_strict_json() -> None:
    reply = await ask(plain_app(), CHAT, path=PATH)

    def refuse(name: str) -> float:
        raise AssertionError(name)

    json.loads(reply.body, parse_constant=refuse)
