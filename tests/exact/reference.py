"""
The truth to compare with: a forward pass in transformers, in fp32 on the CPU.

Nothing of Grace's scoring is used here. Keys and values of a prompt's beginning
are kept for the next prompt, to save time; `whole` does without.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from grace.inference.slots import shared_prefix
from grace.studies.prompts import Message


class Reference:
    """
    The weights of a GGUF file, dequantised by transformers.

    Args:
        path: The file, quantised or not.
    """

    def __init__(self, path: Path) -> None:
        torch.set_num_threads(1)
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        self._tokenizer: Any = AutoTokenizer.from_pretrained(**where)
        self._model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        self._model.eval()
        self._cache: Any = DynamicCache()
        self._held: tuple[int, ...] = ()

    @property
    def dtypes(self) -> frozenset[str]:
        """The types of all parameters; fp32 alone if all is well."""
        return frozenset(str(parameter.dtype) for parameter in self._model.parameters())

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer came with a chat template."""
        return bool(self._tokenizer.chat_template)

    def chat_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of messages under the tokenizer's chat template."""
        ids = self._tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in messages],
            add_generation_prompt=True,
            return_dict=False,
        )
        return tuple(int(token) for token in ids)

    def text_ids(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a plain text."""
        return tuple(int(token) for token in self._tokenizer(text)["input_ids"])

    def score(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability of each token of each continuation of *prompt*."""
        with torch.inference_mode():
            after_prompt = self._read(prompt)
            longest = max(len(ids) for ids in continuations) - 1
            if longest == 0:
                return [(float(after_prompt[ids[0]]),) for ids in continuations]
            # Padding stands on the right: in a causal model, nothing before it sees it.
            rows = torch.tensor(
                [[*ids[:-1], *[0] * (longest + 1 - len(ids))] for ids in continuations]
            )
            cache = copy.deepcopy(self._cache)
            cache.batch_repeat_interleave(len(continuations))
            inside = _log_softmax(self._model(rows, past_key_values=cache).logits)
        return [
            (
                float(after_prompt[ids[0]]),
                *(float(inside[row, depth, token]) for depth, token in enumerate(ids[1:])),
            )
            for row, ids in enumerate(continuations)
        ]

    def whole(self, prompt: tuple[int, ...], continuation: tuple[int, ...]) -> tuple[float, ...]:
        """Return the same for one continuation, from one pass over everything."""
        with torch.inference_mode():
            ids = torch.tensor([[*prompt, *continuation[:-1]]])
            logprobs = _log_softmax(self._model(ids, use_cache=False).logits[0])
        start = len(prompt) - 1
        return tuple(float(logprobs[start + i, token]) for i, token in enumerate(continuation))

    def _read(self, prompt: tuple[int, ...]) -> Any:
        """Fill the cache with a prompt; return the log-probabilities of what follows it."""
        shared = min(shared_prefix(self._held, prompt), len(prompt) - 1)
        # A negative number says how many tokens to drop; a positive one is deprecated.
        self._cache.crop(shared - len(self._held))
        self._held = prompt
        rest = torch.tensor([prompt[shared:]])
        output = self._model(rest, past_key_values=self._cache, logits_to_keep=1)
        return _log_softmax(output.logits[0, -1])


def _log_softmax(logits: Any) -> Any:
    return torch.log_softmax(logits.to(torch.float64), dim=-1)
