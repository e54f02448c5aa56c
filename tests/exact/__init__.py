"""
Grace's scores against a plain forward pass of the same weights in fp32.

Run as `make test-exact`, in an environment of its own with PyTorch and
transformers. It is a program, not a set of pytest tests: its result is a table
of measured differences, and it fails if one of them is over its limit.
"""

import os

# Set before any library is imported: nothing may come from a hub, and the
# threads of one model on a busy machine only wait for each other.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TRANSFORMERS_VERBOSITY="error",
    TQDM_DISABLE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)
