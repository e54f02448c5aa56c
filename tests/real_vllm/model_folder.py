"""
The default model as vLLM reads it: a folder with the weights of the pinned file, in fp32.

Run as a module, it makes the folder if need be, and prints its path.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from exact.weights import MODEL, quantised_weights
from grace.catalogue.store import default_store
from grace.catalogue.weights import LocalWeights


def model_folder() -> Path:
    """
    Return a folder with the default model's weights, dequantised, and its tokenizer.

    vLLM cannot read the GGUF file itself on a CPU. The folder is kept beside
    Grace's other caches, named by the hash of its source.
    """
    weights = quantised_weights()
    folder = default_store().with_name("exact") / f"{MODEL}-{weights.sha256[:12]}-transformers"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            _convert(weights, draft)
            draft.replace(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _convert(weights: LocalWeights, folder: Path) -> None:
    where = {
        "pretrained_model_name_or_path": str(weights.path.parent),
        "gguf_file": weights.path.name,
    }
    model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # The weights are dequantised when they are loaded, but the model still says that it is
    # quantised, and then refuses to be saved.
    for holder, name in (
        (model, "hf_quantizer"),
        (model, "quantization_method"),
        (model, "is_quantized"),
        (model.config, "quantization_config"),
    ):
        if name in vars(holder):
            delattr(holder, name)
    model.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(**where)
    tokenizer.save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text("utf-8"))
    if "quantization_config" in said or said["dtype"] != "float32":
        raise RuntimeError(f"{folder.name}: config.json still tells of {said}")


if __name__ == "__main__":
    print(model_folder())  # noqa: T201
