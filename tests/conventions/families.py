"""
The model families: tokenizer, template, and what Grace's catalogue says of them.

Where a catalogue entry exists, its conventions are taken from there: that is
what is tested. The rest are models of one's own.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conventions.client import TODAY, TokenizerClient, template_in, vocabulary_in
from conventions.packages import (
    DEEPSEEK_V3,
    GEMMA_2,
    GEMMA_3,
    GPT_2,
    GPT_OSS,
    LLAMA_3,
    LLAMA_3_1,
    NpmPackage,
    llama_cpp_template,
    unsloth_template,
)
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.inference.dating import TemplateDate
from grace.pipeline.connection import model_use
from grace.studies.prompts import Convention, PromptMode

Template = Callable[[Path], str]


@cache
def _entries() -> Catalogue:
    return load_catalogue()


@dataclass(frozen=True, slots=True)
class Family:
    """
    One family of models.

    Attributes:
        name: For people.

        package: Where the tokenizer is.

        template: Gives the chat template; None for a base model.

        header: What the template writes before an answer.

        key: The catalogue entries that it stands for.

        own: The convention, where the catalogue has no such model.

        own_date: The template's date, likewise.
    """

    name: str
    package: NpmPackage
    template: Template | None
    header: str = ""
    key: tuple[str, ...] = ()
    own: Convention | None = None
    own_date: TemplateDate | None = None

    @property
    def mode(self) -> PromptMode:
        """How it is prompted."""
        return PromptMode.CHAT if self.template else PromptMode.COMPLETION

    @property
    def convention(self) -> Convention:
        """Where its answers begin and end."""
        if self.own is not None:
            return self.own
        (found,) = {model_use(_entries().get(key)).convention for key in self.key}
        return found

    @property
    def date(self) -> TemplateDate | None:
        """The date that its template writes."""
        if not self.key:
            return self.own_date
        date = _entries().get(self.key[0]).template_date
        return None if date is None else TemplateDate(date.written, date.pinned)

    def client(
        self, *, adds_bos: bool = False, pinned: bool = True, today: datetime.date = TODAY
    ) -> TokenizerClient:
        """Return a client with its tokenizer and template."""
        folder = self.package.files()
        return TokenizerClient(
            vocabulary_in(folder),
            self.template(folder) if self.template else "",
            adds_bos=adds_bos,
            template_date=self.date if pinned else None,
            today=today,
        )


@cache
def _gemma(_: Path) -> str:
    # llama.cpp's copy leaves out the BOS with which the models' own template begins.
    return "{{ bos_token }}" + llama_cpp_template("google/gemma-7b-it")


@cache
def _llama_3_1(_: Path) -> str:
    # Here the package has a place for a system message, which Grace does not send.
    return unsloth_template("llama31_template").replace("{system_message}", "")


def _thinking(folder: Path) -> str:
    # DeepSeek-R1 shares V3's tokenizer; its template goes on to open the thought.
    return template_in(folder) + "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"


LLAMA_HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
GEMMA_HEADER = "<start_of_turn>model\n"
_BAR = "\uff5c"
DEEPSEEK_HEADER = f"<{_BAR}Assistant{_BAR}>"
DEEPSEEK_END = f"<{_BAR}end▁of▁sentence{_BAR}>"

FAMILIES = (
    Family("Llama 3", LLAMA_3, template_in, LLAMA_HEADER, key=("llama-3-8b", "llama-3-70b")),
    Family(
        "Llama 3.1",
        LLAMA_3_1,
        _llama_3_1,
        LLAMA_HEADER,
        own=Convention(end_of_turn="<|eot_id|>"),
        own_date=TemplateDate("Today Date: {date}\n", "26 Jul 2024"),
    ),
    # Gemma 1's package has an early file, in which the tokens of turns are missing: Gemma 2's,
    # with the same vocabulary, stands in for it here.
    Family("Gemma 1", GEMMA_2, _gemma, GEMMA_HEADER, key=("gemma-7b",)),
    Family(
        "Gemma 2",
        GEMMA_2,
        _gemma,
        GEMMA_HEADER,
        key=("gemma-2-2b", "gemma-2-9b", "gemma-2-27b"),
    ),
    Family(
        "Gemma 3", GEMMA_3, template_in, GEMMA_HEADER, own=Convention(end_of_turn="<end_of_turn>")
    ),
    Family("Gemma 3 base", GEMMA_3, None, key=("gemma-3-270m",)),
    Family(
        "gpt-oss",
        GPT_OSS,
        lambda _: unsloth_template("gptoss_template"),
        "<|start|>assistant",
        key=("gpt-oss-20b", "gpt-oss-120b"),
    ),
    Family(
        # V2's own tokenizer is in no package that we know: V3's stands in for it here.
        "DeepSeek V2",
        DEEPSEEK_V3,
        lambda _: llama_cpp_template("DeepSeek-V2"),
        "\n\nAssistant:",
        key=("deepseek-v2-lite-chat", "deepseek-v2-chat"),
    ),
    Family("DeepSeek V3", DEEPSEEK_V3, template_in, DEEPSEEK_HEADER, key=("deepseek-v3",)),
    Family(
        "DeepSeek R1",
        DEEPSEEK_V3,
        _thinking,
        f"{DEEPSEEK_HEADER}<think>\n",
        own=Convention(answer_prefix="</think>\n\n", end_of_turn=DEEPSEEK_END),
    ),
    Family("GPT-2", GPT_2, None, key=("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")),
)
