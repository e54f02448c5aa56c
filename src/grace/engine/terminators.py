"""
The tokens that end an answer, found out from the server.

A chat model ends its turn with a control token. Its template writes the same
token after an earlier turn of the assistant, so a rendered chat shows it. A base
model goes on to the next line. Knows nothing of probabilities.
"""

import re

from grace.errors import QueryRejected, TokenBoundaryError
from grace.inference.client import InferenceClient, Rendered
from grace.scoring.candidates import continuation_tokens
from grace.studies.prompts import Message, Prompt

CONTROL_TOKEN = re.compile(r"<[^<>\s]+>")

LINE_ENDS = ("\n", "\n\n")
"""How a line ends in plain text; vocabularies have a token for each."""

_CONTENT = "Heliotrope"


async def chat_terminators(client: InferenceClient, end_of_turn: str = "") -> tuple[int, ...]:
    """
    Return the token that ends an assistant's turn.

    Args:
        client: The model.

        end_of_turn: The control token, where it is known; "" looks at what the
            model's template writes.

    Raises:
        TokenBoundaryError: The template writes something else after a turn, or
            the control token is several tokens.

        InferenceError: The server does not render such a chat.
    """
    text = end_of_turn or await _template_end(client)
    bare = await client.encode("")
    ids = (await client.encode(text))[len(bare) :]
    if len(ids) != 1:
        raise TokenBoundaryError(f"{text!r} ends a turn, and is {len(ids)} tokens")
    return ids


async def _template_end(client: InferenceClient) -> str:
    messages = (
        Message("user", "Name a colour."),
        Message("assistant", _CONTENT),
        Message("user", "Another."),
    )
    text = (await client.render(Prompt(messages=messages))).text
    start = text.rfind(_CONTENT)
    if start < 0:
        raise QueryRejected("the chat template leaves out what an assistant said before")
    after = text[start + len(_CONTENT) :]
    match = CONTROL_TOKEN.match(after)
    if match is None:
        raise TokenBoundaryError(
            f"the chat template writes {after[:20]!r} after a turn, and no control token first"
        )
    return match.group()


async def line_terminators(
    client: InferenceClient, rendered: Rendered, form: tuple[int, ...], text: str
) -> tuple[int, ...]:
    """
    Return the tokens that end the line after an answer in plain text.

    Args:
        client: The model.

        rendered: The prompt.

        form: The answer's tokens.

        text: The answer as text.

    Raises:
        TokenBoundaryError: A line break would be joined with the answer's last token.
    """
    found: dict[int, None] = {}
    before = (*rendered.token_ids, *form)
    for end in LINE_ENDS:
        joined = await client.encode(rendered.text + text + end)
        try:
            ids = continuation_tokens(before, joined)
        except TokenBoundaryError as error:
            raise TokenBoundaryError(f"{text!r} and a line break: {error}") from error
        # A break of two lines may be two tokens; the first of them ends the line.
        found[ids[0]] = None
    return tuple(found)
