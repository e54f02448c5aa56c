#!/bin/sh
# Resolve all dependencies to hash-pinned requirement files that name no address.
set -eu
cd "$(dirname "$0")/.."
compile() {
    target=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links --no-annotate "$@" -o "requirements/$target.txt"
}
compile runtime pyproject.toml --all-extras --group build
compile dev pyproject.toml --all-extras --group build --group dev -c requirements/runtime.txt
# What images hold: the versions of the runtime, without what they do not need.
compile build --group pyproject.toml:build -c requirements/runtime.txt
compile runner pyproject.toml --extra hub --extra cluster -c requirements/runtime.txt
compile cpu-server pyproject.toml --extra embedded -c requirements/runtime.txt
compile sbom --group pyproject.toml:sbom
compile scan --group pyproject.toml:scan
compile exact pyproject.toml --extra embedded --group exact -c requirements/runtime.txt
# Not with the versions of the runtime: a tool that is compared wants an older python-dateutil.
compile bench pyproject.toml --extra embedded --group bench
# vLLM asks for a build of PyTorch that no index has, and one of its parts for an older NumPy
# than Grace; the other needs NumPy below 2.5.
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT
printf '%s\n' 'torch==2.13.0' 'numpy>=2.4,<2.5' >"$overrides"
compile vllm pyproject.toml --group vllm --overrides "$overrides"
# PyTorch is installed before these: its CPU build has another name on every platform.
python3 - <<'STRIP'
import pathlib
import re

dropped = re.compile(r"(torch|triton|nvidia-|cuda-)")
for name in ("exact", "vllm", "bench"):
    path = pathlib.Path(f"requirements/{name}.txt")
    blocks = re.split(r"(?m)^(?=\S)", path.read_text())
    path.write_text("".join(block for block in blocks if not dropped.match(block)))
STRIP
