"""
Which dialect a server speaks, found out by asking for what only one of them has.

It does not know what the server can do: that is for the dialect's `connect`.
"""

from typing import Literal

from pydantic import JsonValue

from grace.errors import BadReply, GarbledReply, QueryRejected, UsageError
from grace.inference.transport import Transport

Dialect = Literal["llamacpp", "vllm", "tgi", "openai"]


async def detect(transport: Transport) -> Dialect:
    """
    Return the dialect of the server.

    A path that a server does not have means that it is another kind of server.
    A server that does not answer at all ends the search: while it loads its
    model it could be taken for another.

    Args:
        transport: The server's address.

    Raises:
        ServerUnavailable: Nothing answers there, or it is not ready yet.

        UsageError: A server answers, but it is none of these.
    """
    problems: list[str] = []
    props = await _ask(transport, "/props", problems)
    if "default_generation_settings" in props:
        return "llamacpp"
    models = await _ask(transport, "/v1/models", problems)
    cards = models.get("data")
    entries = [card for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
    if any(card.get("owned_by") == "vllm" for card in entries):
        return "vllm"
    info = await _ask(transport, "/info", problems)
    # Hugging Face's server for embeddings has an /info too, without a router.
    if "model_id" in info and "router" in info:
        return "tgi"
    if not isinstance(cards, list):
        models = await _ask(transport, "/models", problems)
        cards = models.get("data")
    if isinstance(cards, list):
        return "openai"
    raise UsageError(
        f"--endpoint {transport.base_url} answers, but not as llama.cpp, vLLM, TGI or an "
        f"OpenAI-style server: {'; '.join(problems) or 'no list of models'}"
    )


async def _ask(transport: Transport, path: str, problems: list[str]) -> dict[str, JsonValue]:
    try:
        reply = await transport.get(path)
    except (QueryRejected, BadReply, GarbledReply) as error:
        problems.append(str(error))
        return {}
    return reply if isinstance(reply, dict) else {}
