"""GPUs of the catalogue's own options hold what the models need, by arithmetic."""

import pytest

from grace.catalogue.spec import load_catalogue

VLLM_TAKES = 0.9
"""Of a GPU's memory, by default."""
BESIDES_GB = 2.0
"""On each GPU: activations and captured graphs."""

# Weights in GB as they are served; layers; bytes that a token keeps in each. As published in the
# models' own configurations: key-value heads x size of a head x 2 (keys, values) x 2 bytes.
KEPT = {
    "gemma-2-2b": (5.2, 26, 4 * 256 * 4),
    "gemma-7b": (17.1, 28, 16 * 256 * 4),
    "gemma-2-9b": (18.5, 42, 8 * 256 * 4),
    "gemma-2-27b": (54.5, 46, 16 * 128 * 4),
    "llama-3-8b": (16.1, 32, 8 * 128 * 4),
    "llama-3-70b": (141.1, 80, 8 * 128 * 4),
    "gpt-oss-20b": (13.8, 24, 8 * 64 * 4),
    "gpt-oss-120b": (65.3, 36, 8 * 64 * 4),
    # One compressed vector for keys and values, 512 + 64 wide.
    "deepseek-v2-lite-chat": (31.4, 27, 576 * 2),
}
SIZES = (24, 48)


def own_options() -> dict[str, tuple[int, float]]:
    """Return count and memory of the options that are ours, by model."""
    return {
        spec.key: (option.count, option.memory_gb)
        for spec in load_catalogue(apply_lock=False).models
        for option in spec.gpus
        if option.name.endswith(" GB")
    }


def fits(key: str, count: int, memory_gb: float) -> bool:
    weights, layers, kept = KEPT[key]
    context = load_catalogue(apply_lock=False).get(key).context_length
    needed = weights + context * layers * kept / 1e9 + BESIDES_GB * count
    return needed <= VLLM_TAKES * memory_gb * count


def test_the_arithmetic_is_about_every_option_of_ours() -> None:
    assert set(own_options()) == set(KEPT)


@pytest.mark.parametrize("key", KEPT)
def test_the_option_holds_weights_and_a_full_context_and_is_the_smallest(key: str) -> None:
    count, memory_gb = own_options()[key]
    assert memory_gb in SIZES
    assert fits(key, count, memory_gb)
    if memory_gb > SIZES[0]:
        assert not fits(key, count, SIZES[0])
    if count > 1:
        # Weights are split into halves, quarters, and so on.
        assert not fits(key, count // 2, memory_gb)


def test_an_option_of_ours_comes_after_those_of_the_specification() -> None:
    for spec in load_catalogue(apply_lock=False).models:
        ours = [option.name.endswith(" GB") for option in spec.gpus]
        assert ours == sorted(ours)
