"""What models answer, read by the rules and by a model that extracts."""

import asyncio
import json
from collections.abc import Mapping
from functools import partial

from hypothesis import strategies as st

from fuzz.harness import Broken, Target
from fuzz.mutations import Recipe, json_parts, recipes
from fuzz.yaml_files import FIELDS_STUDY
from grace.extraction.model_extractor import ModelExtractor, model_answer
from grace.extraction.parsed import Parsed
from grace.extraction.rules import parse_by_rules
from grace.inference.client import Generation, GenerationRequest
from grace.inference.toy import ToyClient
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.loader import parse_study
from grace.studies.politeness import POLITENESS
from grace.studies.prompts import PromptMode
from grace.studies.study import Study

RESPONSES = ("study1 rules", "study2 rules", "generic rules", "model extraction")
_PHRASES = (
    *(
        "$10 on 2 and $90 on 3.",
        "0: $0\n1: $10\n2: $30\n3: $60\n",
        "2 of the 3 ",
        "All three.",
        "0, 1, 2, 3",
    ),
    *(
        "split it evenly between 2 and 3",
        "the rest on 2",
        "nothing on 0 or 1",
        "| 0 | 1 | 2 | 3 |\n",
        "1. ",
    ),
    *(
        "No, he can't know exactly how many.",
        "Yes. She knows.",
        "It wasn't terrible.",
        "It was good",
        "<think>",
    ),
    *(
        "</think>",
        "actually, ",
        "wait, no, ",
        "if she had ",
        "most likely ",
        "between 1 and 3",
        "at least 2 ",
    ),
    *(
        "**Answer:** 3",
        "one hundred",
        "a: 40, b: 60",
        "a is 40",
        "- 0: 25\n",
        "($5) ",
        "not ",
        "n't know ",
        "  ",
    ),
    *(
        '"It was ',
        "amazing",
        "bad or good",
        "\u201cIt wasn\u2019t bad\u201d",
        "\uff12",
        "\u0663 ",
        "1/2 ",
        "$1,000 ",
    ),
    *(
        "$",
        "0 ",
        "99999999999 ",
        "3.5 ",
        "-1 ",
        ", ",
        ". ",
        "\n",
        "? ",
        "and ",
        "or ",
        "(",
        ")",
        ":",
        "%",
        "User: ",
    ),
)


def response_targets() -> list[Target]:
    """Return the readers of responses."""
    own = parse_study(FIELDS_STUDY, "mine.yaml")
    studies = [(RESPONSES[0], KNOWLEDGE), (RESPONSES[1], POLITENESS), (RESPONSES[2], own)]
    made = [
        Target(name, _texts(), partial(_by_rules, study), partial(_in_bounds, study))
        for name, study in studies
    ]
    loop = asyncio.new_event_loop()
    valid = json.dumps(
        {"Prior_A": 3, "0": 0, "1": 10, "2": 30, "3": 60, "Knowledge_A": "yes"}
    ).encode()
    fenced = b"Here it is:\n```json\n" + valid + b"\n```"
    begun = json_parts().map(lambda change: partial(change, valid))
    inputs = recipes(begun) | recipes(st.just(lambda: fenced))
    return [*made, Target(RESPONSES[3], inputs | _texts(), partial(_by_model, loop))]


def _texts() -> st.SearchStrategy[Recipe]:
    phrase = st.sampled_from(_PHRASES) | st.text(max_size=4)
    times = st.sampled_from([1] * 30 + [5] * 6 + [200, 2_000, 100_000])
    parts = st.lists(st.tuples(st.lists(phrase, min_size=1, max_size=4), times), max_size=6)
    return recipes(parts.map(lambda drawn: partial(_joined, drawn)))


def _joined(parts: list[tuple[list[str], int]]) -> bytes:
    pieces = []
    for phrases, times in parts:
        piece = "".join(phrases)
        pieces.append(piece * min(times, 1_000_000 // len(piece) + 1) if piece else "")
    return "".join(pieces)[:1_000_000].encode("utf-8", "surrogatepass")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _by_rules(study: Study, content: bytes) -> Parsed:
    text = _text(content)
    return parse_by_rules(study, {probe.name: text for probe in study.dialogue})


def _in_bounds(study: Study, _content: bytes, read: object) -> None:
    if not isinstance(read, Parsed) or list(read.values) != [one.name for one in study.fields]:
        raise Broken("the fields are not those of the study")
    for field in study.fields:
        value = read.values[field.name]
        allowed = {*field.choices, "uncertain"}
        if field.kind == "integer" and isinstance(value, int):
            if not field.minimum <= value <= field.maximum:
                raise Broken(f"{field.name} is {value}")
        elif field.kind == "choice" and value is not None and value not in allowed:
            raise Broken(f"{field.name} is {value!r}")
    if None in read.values.values() and not read.problems and read.complete:
        raise Broken("a field is missing, and nothing says why")


class _Says(ToyClient):
    """The toy, saying one text."""

    text = ""

    async def generate(self, request: GenerationRequest) -> Generation:
        """Return the text."""
        return Generation(self.text, "stop", None, None)


def _by_model(loop: asyncio.AbstractEventLoop, content: bytes) -> None:
    client = _Says()
    client.text = _text(content)
    responses: Mapping[str, str] = {
        "prior": "3",
        "speech": "0, ten, 30 and $60" + client.text[:2_000_000],
        "knowledge": client.text,
    }
    extractor = ModelExtractor("m", client, PromptMode.CHAT)
    study = BUILTIN_STUDIES["study1"]
    record = loop.run_until_complete(extractor.extract(study, responses))
    model_answer(study, record, responses)
