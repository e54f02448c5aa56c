"""
A tokenizer and a chat template as an inference client: real tokens, no model.

Templates are rendered as `transformers` renders them. Two kinds of server are
played: one whose encoding leaves the BOS to the text (as vLLM's `/tokenize`
does for chats), and one that adds a BOS, which must not be doubled (llama.cpp).
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from grace.errors import QueryRejected, UnsupportedByServer
from grace.inference.client import (
    Capabilities,
    Generation,
    GenerationRequest,
    NextTokenQuestion,
    Rendered,
    ServerIdentity,
)
from grace.inference.dating import TemplateDate
from grace.studies.prompts import Message, Prompt, PromptMode

TODAY = datetime.date(2026, 11, 23)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A real tokenizer, and its begin and end of text."""

    tokenizer: Tokenizer
    bos: str
    eos: str

    def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Encode; *special* adds what the tokenizer puts around a text."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode, special tokens included."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def pieces(self, text: str) -> list[str]:
        """Return the text of each token of *text*."""
        return [self.decode([token]) for token in self.encode(text)]


@cache
def vocabulary_in(folder: Path) -> Vocabulary:
    """Read `tokenizer.json` and the special tokens of `tokenizer_config.json`."""
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))

    def special(name: str) -> str:
        found = config.get(name) or ""
        return str(found["content"] if isinstance(found, dict) else found)

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Vocabulary(tokenizer, special("bos_token"), special("eos_token"))


def template_in(folder: Path) -> str:
    """Return the chat template of `tokenizer_config.json`."""
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return str(config["chat_template"])


@cache
def _compiled(template: str, today: datetime.date) -> Template:
    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = today.strftime
    return environment.from_string(template)


class TokenizerClient:
    """
    Renders and encodes as a server with this model would; it answers nothing.

    Args:
        vocabulary: The tokenizer.

        template: The chat template; "" for a base model.

        adds_bos: Whether `encode` adds a BOS to a text that has none.

        template_date: See `TemplateDate`.

        today: What the template takes for the current date.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: str = "",
        *,
        adds_bos: bool = False,
        template_date: TemplateDate | None = None,
        today: datetime.date = TODAY,
    ) -> None:
        self.vocabulary = vocabulary
        self.encodings = 0
        self._template = template
        self._adds_bos = adds_bos
        self._template_date = template_date
        self._today = today
        with_bos = vocabulary.encode("", special=True)
        self._bos_ids = with_bos if len(with_bos) == 1 else ()

    @property
    def capabilities(self) -> Capabilities:
        """Token ids, and nothing else."""
        return Capabilities(
            token_ids=True, next_token=False, sequence=False, json_schema=False, seed=False
        )

    async def connect(self) -> ServerIdentity:
        """Say who this is."""
        return await self.identify()

    async def identify(self) -> ServerIdentity:
        """Say who this is."""
        return ServerIdentity("tokenizer", "", "tokenizer")

    def chat(self, messages: Sequence[Message], *, answer_next: bool = True) -> str:
        """Return a chat under the template; with a header for an answer if one comes next."""
        try:
            return _compiled(self._template, self._today).render(
                messages=[{"role": m.role, "content": m.content} for m in messages],
                add_generation_prompt=answer_next,
                bos_token=self.vocabulary.bos,
                eos_token=self.vocabulary.eos,
                date_string=f"{self._today:%d %b %Y}",
            )
        except TemplateError as error:
            raise QueryRejected(f"the chat template says: {error}") from error

    async def render(self, prompt: Prompt) -> Rendered:
        """Apply the template, or put the BOS before plain text."""
        if prompt.mode is PromptMode.CHAT:
            text = self.chat(prompt.messages)
            if self._template_date is not None:
                text = self._template_date.pin(text, prompt.messages)
            text += prompt.answer_prefix
        elif self._adds_bos:
            text = prompt.text
        else:
            text = self.vocabulary.decode(self._bos_ids) + prompt.text
        return Rendered(text, await self.encode(text))

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Render without the answer prefix."""
        return (await self.render(replace(prompt, answer_prefix=""))).token_ids

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Decode, special tokens included."""
        return self.vocabulary.decode(tuple(token_ids))

    async def encode(self, text: str) -> tuple[int, ...]:
        """Encode, special tokens in the text recognised."""
        self.encodings += 1
        ids = self.vocabulary.encode(text)
        if self._adds_bos and ids[:1] != self._bos_ids:
            return self._bos_ids + ids
        return ids

    async def generate(self, request: GenerationRequest) -> Generation:
        """Refuse: there is no model."""
        raise UnsupportedByServer("a tokenizer has no answers")

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        """Refuse: there is no model."""
        raise UnsupportedByServer("a tokenizer has no probabilities")

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Refuse: there is no model."""
        raise UnsupportedByServer("a tokenizer has no probabilities")

    async def aclose(self) -> None:
        """Nothing to release."""
