"""
The loop that most scripts have: for each row, for each answer, one forward pass.

In fp32, without a cache, one sequence at a time, as the scripts do that this
project replaces. Tokens are given, so that the seam cannot go wrong.
"""

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.tasks import Job, Scores


class TransformersLoop:
    """
    The model, loaded before the clock starts.

    Args:
        job: Where the model is, and how many threads compute.
    """

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        self._model: Any = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32)
        self._model.eval()
        self.tokens = 0
        self.began = time.perf_counter()

    def run(self, job: Job) -> Scores:
        """Score all tasks, one answer after another."""
        scores: Scores = {}
        with torch.inference_mode():
            for task in job.tasks:
                scores[task.key] = {}
                for form in task.forms:
                    ids = [*task.prompt, *form.token_ids]
                    logits = self._model(torch.tensor([ids])).logits[0].double()
                    logprobs = torch.log_softmax(logits, dim=-1)
                    start = len(task.prompt) - 1
                    self.tokens += len(ids)
                    scores[task.key][form.text] = sum(
                        float(logprobs[start + place, token])
                        for place, token in enumerate(form.token_ids)
                    )
        return scores
