import json
from collections.abc import Sequence
from typing import Any

import pytest

from grace.errors import ServerUnavailable
from grace.extraction.model_extractor import ModelExtractor, extraction_prompt, model_answer
from grace.extraction.schema import extraction_model, json_schema
from grace.inference.client import Capabilities, Generation, GenerationRequest
from grace.inference.toy import ToyClient
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.politeness import POLITENESS
from grace.studies.prompts import PromptMode
from grace.studies.study import Study

RESPONSES = {"prior": "3", "speech": "0, ten, 30 and $60", "knowledge": "Yes."}
VALID: dict[str, Any] = {
    "Prior_A": 3,
    "0": 0,
    "1": 10,
    "2": 30,
    "3": 60,
    "Knowledge_A": "yes",
}


class Says(ToyClient):
    """The toy, saying given texts in turn, and able to keep to a schema if told so."""

    def __init__(self, texts: Sequence[str], *, schema: bool = False) -> None:
        super().__init__()
        self._texts = list(texts)
        self._schema = schema
        self.asked: list[GenerationRequest] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            token_ids=True, next_token=True, sequence=True, json_schema=self._schema, seed=True
        )

    async def generate(self, request: GenerationRequest) -> Generation:
        self.asked.append(request)
        return Generation(self._texts.pop(0), "stop", None, None)


async def extract(
    client: Says, study: Study = KNOWLEDGE, mode: PromptMode = PromptMode.CHAT
) -> Any:
    responses = RESPONSES if study is KNOWLEDGE else {"utterance": "It was good."}
    return await ModelExtractor("m", client, mode).extract(study, responses)


async def test_a_valid_answer_is_kept_with_its_raw_text() -> None:
    client = Says([json.dumps(VALID)])
    value = await extract(client)
    assert value == {
        "raw": [json.dumps(VALID)],
        "repaired": False,
        "values": VALID,
        "problem": "",
    }
    (request,) = client.asked
    assert (request.sampling.temperature, request.seed) == (0, 0)
    assert request.json_schema is None


async def test_the_schema_constrains_servers_that_can_keep_to_it() -> None:
    client = Says([json.dumps(VALID)], schema=True)
    await extract(client)
    assert client.asked[0].json_schema == json_schema(KNOWLEDGE)


@pytest.mark.parametrize(
    "text",
    [
        "Sure! ```json\n{}\n```",
        "<think>Let me see.</think> {}",
        "{} That is all.",
    ],
)
async def test_what_stands_around_the_json_does_not_matter(text: str) -> None:
    value = await extract(Says([text.replace("{}", json.dumps(VALID))]))
    assert value["values"] == VALID


BROKEN = {
    "no JSON": ("I cannot.", "there is no JSON object"),
    "half": ('{"Prior_A": 3', "there is no JSON object"),
    "out of range": (json.dumps({**VALID, "Prior_A": 4}), "Prior_A"),
    "text for a number": (json.dumps({**VALID, "0": "10"}), "0: "),
    "a fraction": (json.dumps({**VALID, "0": 2.5}), "0: "),
    "true": (json.dumps({**VALID, "0": True}), "0: "),
    "another word": (json.dumps({**VALID, "Knowledge_A": "maybe"}), "Knowledge_A"),
    "missing": (json.dumps({k: v for k, v in VALID.items() if k != "3"}), "3: "),
    "more": (json.dumps({**VALID, "note": "x"}), "note"),
    "a list": (json.dumps([VALID, VALID]), ""),
    "NaN": (json.dumps({**VALID, "0": float("nan")}), "0: "),
    "deep": ("{" * 5000 + "}" * 5000, ""),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_invalid_answer_is_repaired_once(name: str) -> None:
    text, problem = BROKEN[name]
    client = Says([text, json.dumps(VALID)])
    value = await extract(client)
    assert (value["values"], value["repaired"]) == (VALID, True)
    assert value["raw"] == [text, json.dumps(VALID)]
    request = client.asked[1].prompt.messages
    assert [message.role for message in request] == ["user", "assistant", "user"]
    assert request[1].content == text
    assert problem in request[2].content


@pytest.mark.parametrize("name", BROKEN)
async def test_a_second_invalid_answer_is_a_failure_with_both_texts_kept(name: str) -> None:
    text, problem = BROKEN[name]
    value = await extract(Says([text, text]))
    assert (value["values"], value["repaired"], value["raw"]) == (None, False, [text, text])
    assert problem in value["problem"]
    assert model_answer(KNOWLEDGE, value, RESPONSES) is None


async def test_an_empty_answer_is_repaired_too() -> None:
    client = Says(["", json.dumps(VALID)])
    assert (await extract(client))["values"] == VALID
    assert client.asked[1].prompt.messages[1].content


async def test_a_base_model_is_asked_in_plain_text() -> None:
    client = Says([json.dumps(VALID)])
    await extract(client, mode=PromptMode.COMPLETION)
    assert client.asked[0].prompt.text.endswith("\n\nJSON:")


async def test_a_lost_server_is_not_an_extraction() -> None:
    class Lost(Says):
        async def generate(self, request: GenerationRequest) -> Generation:
            raise ServerUnavailable("gone")

    with pytest.raises(ServerUnavailable):
        await extract(Lost([]))


def test_numbers_must_stand_in_the_response_in_digits_or_words() -> None:
    value: Any = {"values": {**VALID, "2": 31}}
    answer = model_answer(KNOWLEDGE, value, RESPONSES)
    assert answer is not None
    # Zero is stated by what the other amounts leave over; ten is a word; 31 is nowhere.
    assert (answer.values["0"], answer.values["1"], answer.values["2"]) == (0, 10, None)
    assert answer.problems == ("2: the model says 31, which the response does not state",)


def test_a_number_inside_another_number_is_not_stated() -> None:
    value: Any = {"values": {**VALID, "1": 6, "2": None}}
    answer = model_answer(KNOWLEDGE, value, RESPONSES)
    assert answer is not None
    assert answer.values["1"] is None
    assert answer.values["2"] is None


@pytest.mark.parametrize("study", BUILTIN_STUDIES.values(), ids=lambda study: study.key)
def test_the_request_has_responses_fields_and_schema(study: Study) -> None:
    responses = {probe.name: f"response to {probe.name}" for probe in study.dialogue}
    text = extraction_prompt(study, responses)
    for probe in study.dialogue:
        assert f"<<<\nresponse to {probe.name}\n>>>" in text
    for answer_field in study.fields:
        assert f"- {json.dumps(answer_field.name)} (" in text
    assert json.dumps(json_schema(study), ensure_ascii=False) in text
    assert "do not guess" in text


@pytest.mark.parametrize("study", BUILTIN_STUDIES.values(), ids=lambda study: study.key)
def test_the_schema_is_that_of_the_specification_with_null_for_what_is_not_stated(
    study: Study,
) -> None:
    schema = json_schema(study)
    assert schema["required"] == [answer_field.name for answer_field in study.fields]
    assert schema["additionalProperties"] is False
    nothing = dict.fromkeys((answer_field.name for answer_field in study.fields), None)
    extraction_model(study).model_validate(nothing)


def test_politeness_knows_no_uncertainty() -> None:
    with pytest.raises(ValueError, match="Assessment"):
        extraction_model(POLITENESS).model_validate(
            {"Was/Wasn't": "was", "Assessment": "uncertain", "response_text": None}
        )


async def test_a_name_that_the_model_made_up_is_not_repeated_as_the_reason() -> None:
    text = json.dumps({**VALID, "Jane Doe said so": 1})
    value = await extract(Says([text, text]))
    assert value["values"] is None
    assert value["problem"] == ("a name that is none of the fields: Extra inputs are not permitted")
