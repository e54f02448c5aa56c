"""
What a vLLM server can do, measured with small requests on connecting.

vLLM ignores fields that it does not know, and some of its start options change
what a log-probability means. Nothing is taken from a version number: each
ability is tried, and its result is compared with another way to the same number.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from grace.errors import BadReply, QueryRejected
from grace.inference.client import Capabilities, Rendered
from grace.inference.dating import TemplateDate
from grace.inference.openai import schema_format
from grace.inference.reply import ModelCard, ModelCards, Reply, choose_model, parse
from grace.inference.transport import Transport
from grace.inference.vllm_requests import VllmRequests
from grace.studies.prompts import Message

PROBE_TEXT = "The capital of France is"
PROBE_CHAT = (Message("user", "One?"), Message("assistant", "1"), Message("user", "Two?"))
SCHEMA_WORD = "zq17"
PROBE_SCHEMA: Mapping[str, JsonValue] = {
    "type": "object",
    "properties": {"probe": {"type": "string", "enum": [SCHEMA_WORD]}},
    "required": ["probe"],
    "additionalProperties": False,
}

_UNLIKELY_TEXT = " zebra xylophone quartz"
_PROBE_SEED = 20_261_123
# vLLM allows 128 at most; the default of --max-logprobs bounds some versions at 20.
_LIST_SIZES = (128, 64, 20, 5, 1)
# Two ways to one number, in bfloat16 and another batch, may differ by this much.
_AGREEMENT = 1.0
_SURE = 1e-3


@dataclass(frozen=True, slots=True)
class FoundServer:
    """The model that was chosen, and what the server says without being probed."""

    model: str
    version: str
    details: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Probed:
    """
    What the probes found.

    Attributes:
        capabilities: See `Capabilities`.

        listed_tokens: Most token ids in one `logprob_token_ids`.

        forces: Whether a forced token may be drawn to ask about two places at once.

        bos: What the tokenizer puts before a plain text; may be empty.

        details: What joins the server's identity.
    """

    capabilities: Capabilities
    listed_tokens: int = 0
    forces: bool = False
    bos: Rendered = field(default_factory=lambda: Rendered("", ()))
    details: Mapping[str, JsonValue] = field(default_factory=dict)


class _Version(Reply):
    version: str


async def find_server(transport: Transport, asked_model: str | None) -> FoundServer:
    """
    Choose the model and read the version.

    Raises:
        UsageError: The model is not served, or there are several.
    """
    cards = await _model_cards(transport)
    return await _described(
        transport, cards, choose_model(asked_model, list(cards), transport.base_url)
    )


async def find_again(transport: Transport, model: str) -> FoundServer:
    """Read the version and the model's card again; another model's, if this one is gone."""
    cards = await _model_cards(transport)
    return await _described(transport, cards, model if model in cards else next(iter(cards), ""))


async def _model_cards(transport: Transport) -> dict[str, ModelCard]:
    reply = await transport.get("/v1/models")
    return {card.id: card for card in parse(ModelCards, reply, "vLLM /v1/models").data}


async def _described(
    transport: Transport, cards: Mapping[str, ModelCard], model: str
) -> FoundServer:
    try:
        version = parse(_Version, await transport.get("/version"), "vLLM /version").version
    except QueryRejected:
        # A router before several servers may not pass it on.
        version = ""
    card = cards.get(model)
    details: dict[str, JsonValue] = {"max_model_len": card.max_model_len if card else None}
    if card and card.root and not card.root.startswith(("/", ".", "~")):
        details["root"] = card.root
    return FoundServer(model=model, version=version, details=details)


async def probe(requests: VllmRequests, template_date: TemplateDate | None = None) -> Probed:
    """
    Try every ability of the server and the chosen model.

    Args:
        requests: To the server, about the model.

        template_date: The date that the model's template writes, if it does.
    """
    try:
        plain = await requests.tokens(PROBE_TEXT, add_special_tokens=False)
        special = await requests.tokens(PROBE_TEXT, add_special_tokens=True)
        unlikely = await requests.tokens(_UNLIKELY_TEXT, add_special_tokens=False)
    except (QueryRejected, BadReply):
        return Probed(
            Capabilities(
                token_ids=False, next_token=False, sequence=False, json_schema=False, seed=False
            )
        )
    bos_ids = special[: len(special) - len(plain)]
    bos = Rendered(await requests.text(bos_ids) if bos_ids else "", bos_ids)
    token_ids = len(bos_ids) < 2 and bos_ids + plain == special
    listed_tokens = await _most_listed_tokens(requests, special, unlikely)
    from_tail = await _tail_logprob(requests, special, unlikely[0])
    mode = "unknown"
    if listed_tokens:
        mode = await _logprobs_mode(requests, special, unlikely[0], from_tail)
    return Probed(
        capabilities=Capabilities(
            token_ids=token_ids,
            next_token=token_ids and mode == "raw",
            sequence=token_ids and from_tail is not None and mode != "contradictory",
            json_schema=await _obeys_schema(requests, special),
            seed=await _honours_seed(requests, special),
            questions_together=True,
            most_probable=mode == "raw",
        ),
        listed_tokens=listed_tokens,
        forces=mode == "raw" and await _forces(requests, special, unlikely),
        bos=bos,
        details={
            "logprobs_mode": mode,
            "chat_probe_sha256": await _chat_probe_hash(requests, template_date),
        },
    )


def is_constrained(text: str) -> bool:
    """
    Whether *text* is what `PROBE_SCHEMA` leaves possible, perhaps cut off.

    >>> is_constrained('{ "probe": "zq')
    True
    >>> is_constrained("Paris. The capital of")
    False
    """
    only = json.dumps({"probe": SCHEMA_WORD}, separators=(",", ":"))
    compact = "".join(text.split())
    return len(compact) > len('{"probe"') and only.startswith(compact)


async def _most_listed_tokens(
    requests: VllmRequests, prefix: tuple[int, ...], unlikely: Sequence[int]
) -> int:
    """Return how many tokens can be listed at once; 0 if they cannot be chosen at all."""
    try:
        # Tokens that no list of the most probable would hold.
        await requests.listed_logprobs([prefix], sorted(set(unlikely[:2])))
    except (QueryRejected, BadReply):
        return 0
    for size in _LIST_SIZES:
        try:
            await requests.listed_logprobs([prefix], range(size))
        except (QueryRejected, BadReply):
            continue
        return size
    return 0


async def _logprobs_mode(
    requests: VllmRequests, prefix: tuple[int, ...], token: int, from_tail: float | None
) -> str:
    """
    Say what the listed numbers are: `raw`, `processed`, `contradictory` or `unknown`.

    A token that is forced through a mask keeps its raw value, and has a
    processed one of 0. The same token scored as a part of the prompt must have
    the same value.
    """
    try:
        free = (await requests.listed_logprobs([prefix], [token]))[0][token]
        forced = (await requests.listed_logprobs([prefix], [token], allowed_token_ids=[token]))[0][
            token
        ]
    except (QueryRejected, BadReply):
        return "unknown"
    if from_tail is not None and abs(free - from_tail) > _AGREEMENT:
        return "contradictory"
    if abs(free) > _AGREEMENT and abs(forced) < _SURE:
        return "processed"
    return "raw" if abs(free - forced) <= _AGREEMENT else "unknown"


async def _forces(requests: VllmRequests, prefix: tuple[int, ...], unlikely: Sequence[int]) -> bool:
    """Tell whether the numbers behind a forced token are those behind the same token in a prompt."""
    forced, asked = unlikely[0], unlikely[-1]
    try:
        free = await requests.listed_logprobs([prefix, (*prefix, forced)], [asked])
        pair = (await requests.forced_logprobs([prefix], [asked], forced))[0]
    except (QueryRejected, BadReply):
        return False
    return all(
        abs(one[asked] - other[asked]) <= _AGREEMENT for one, other in zip(free, pair, strict=True)
    )


async def _tail_logprob(
    requests: VllmRequests, prefix: tuple[int, ...], token: int
) -> float | None:
    """
    Return the log-probability of *token* as the end of a prompt, or None.

    A server may be started to report logits. Those of ordinary text are above
    0, and are refused as log-probabilities: so the prefix is scored as well.
    """
    try:
        values = (await requests.tail_logprobs(prefix[:1], [(*prefix[1:], token)]))[0]
    except (QueryRejected, BadReply):
        return None
    return values[-1]


async def _obeys_schema(requests: VllmRequests, prefix: tuple[int, ...]) -> bool:
    try:
        texts = await requests.texts(prefix, 1, 48, response_format=schema_format(PROBE_SCHEMA))
    except (QueryRejected, BadReply):
        return False
    return is_constrained(texts[0])


async def _honours_seed(requests: VllmRequests, prefix: tuple[int, ...]) -> bool:
    """Draw twice with one seed, hot enough that chance would not repeat itself."""
    try:
        first, second = await requests.texts(prefix, 2, 8, temperature=2, seed=_PROBE_SEED)
    except (QueryRejected, BadReply):
        return False
    return first == second


async def _chat_probe_hash(
    requests: VllmRequests, template_date: TemplateDate | None
) -> str | None:
    """Hash a rendered chat: the template itself cannot be read. None without a template."""
    try:
        token_ids = await requests.chat_tokens(PROBE_CHAT)
        text = await requests.text(token_ids)
        if template_date is not None:
            # The hash belongs to the identity, which must not change overnight.
            text = template_date.pin(text, PROBE_CHAT)
            token_ids = await requests.tokens(text, add_special_tokens=False)
    except QueryRejected:
        return None
    return hashlib.sha256(json.dumps([text, token_ids]).encode()).hexdigest()
