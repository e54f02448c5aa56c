"""The default model's weights as they are served, and once more with every tensor in fp32."""

import os
from pathlib import Path

import gguf

from grace.catalogue.spec import load_catalogue
from grace.catalogue.store import default_store
from grace.catalogue.weights import LocalWeights, ensure_weights

MODEL = "smollm2-135m"


def quantised_weights() -> LocalWeights:
    """Return the weights of the catalogue's default model, fetched if need be."""
    return ensure_weights(load_catalogue().get(MODEL))


def fp32_copy(quantised: LocalWeights) -> Path:
    """
    Return a GGUF file with the same weights, dequantised, and the same metadata.

    It is kept beside Grace's other caches, named by the hash of its source.
    """
    path = default_store().with_name("exact") / f"{MODEL}-{quantised.sha256[:12]}-f32.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            _dequantise(quantised.path, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path


def _dequantise(source: Path, target: Path) -> None:
    reader = gguf.GGUFReader(source)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    writer = gguf.GGUFWriter(target, arch=architecture)
    # The writer writes these itself, and the quantisation's version no longer applies.
    own = {
        gguf.Keys.General.ARCHITECTURE,
        gguf.Keys.General.FILE_TYPE,
        gguf.Keys.General.QUANTIZATION_VERSION,
    }
    for name, field in reader.fields.items():
        if name in own or name.startswith("GGUF."):
            continue
        kind = field.types[0]
        of_items = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=of_items)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
