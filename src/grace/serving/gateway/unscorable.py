"""
Why a candidate set cannot be scored: each form at fault, with its tokens.

Looks only at sets that were refused already, so it may take its time. It
decides nothing: the set is refused by `grace.scoring.candidates`.
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from grace.inference.client import InferenceClient, Rendered
from grace.serving.gateway.problems import Fault, ProblemToken

TokenText = Callable[[int], Awaitable[str | None]]

_MOST_FAULTS = 20
_SHOWN_PROMPT = 20
_ENDING = (
    "Give every candidate an ending, such as % or a full stop, so that none is the beginning of "
    "another."
)
_SEAM = (
    "Begin the candidate, or end the prompt, where a token ends: move a space from one to the "
    "other, or set answer_separator."
)


@dataclass(frozen=True, slots=True)
class _Encoded:
    label: str
    text: str
    token_ids: tuple[int, ...]


async def find_faults(
    client: InferenceClient,
    rendered: Rendered,
    forms: Sequence[tuple[str, str]],
    token_text: TokenText,
) -> tuple[Fault, ...]:
    """
    Return what is wrong with a candidate set, most basic faults first.

    Args:
        client: The model, for encoding.

        rendered: The prompt.

        forms: Label and text of each form, separator included.

        token_text: Gives a token's text, or None.

    Raises:
        InferenceError: The server did not answer.
    """
    faults: list[Fault] = []
    sound: list[_Encoded] = []
    for label, text in forms:
        joined = await client.encode(rendered.text + text)
        fault = await _seam_fault(rendered, label, text, joined, token_text)
        if fault is None:
            sound.append(_Encoded(label, text, joined[len(rendered.token_ids) :]))
        else:
            faults.append(fault)
    ordered = sorted(sound, key=lambda form: form.token_ids)
    for shorter, longer in itertools.pairwise(ordered):
        if longer.token_ids[: len(shorter.token_ids)] == shorter.token_ids:
            same = longer.token_ids == shorter.token_ids
            faults.append(
                Fault(
                    candidate=shorter.label,
                    form=shorter.text,
                    tokens=await _shown(shorter.token_ids, token_text),
                    message=f"the tokens of {shorter.text!r} "
                    f"{'are' if same else 'begin'} those of {longer.text!r}: the answers do not "
                    "exclude each other",
                    remedy=_ENDING,
                )
            )
    return tuple(faults[:_MOST_FAULTS])


async def _seam_fault(
    rendered: Rendered, label: str, text: str, joined: tuple[int, ...], token_text: TokenText
) -> Fault | None:
    prompt = rendered.token_ids
    if joined == prompt:
        return Fault(
            candidate=label,
            form=text,
            tokens=[],
            message=f"{text!r} adds no token to the prompt",
            remedy="Give the candidate a visible text.",
        )
    kept = sum(
        1
        for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(prompt, joined))  # noqa: B905
    )
    if kept == len(prompt):
        return None
    # The first token that differs is the one that lies across the seam.
    across = await _shown(joined[kept : kept + 1], token_text)
    named = f" {across[0].text!r}" if across and across[0].text is not None else ""
    return Fault(
        candidate=label,
        form=text,
        tokens=across,
        message=f"{text!r} after {rendered.text[-_SHOWN_PROMPT:]!r}: the seam falls inside a "
        f"token{named}",
        remedy=_SEAM,
    )


async def _shown(token_ids: Sequence[int], token_text: TokenText) -> list[ProblemToken]:
    return [ProblemToken(id=token, text=await token_text(token)) for token in token_ids]
