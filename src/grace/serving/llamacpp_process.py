"""
The process of the embedded server: llama.cpp's own server, from a Python wheel.

Run as `python -m grace.serving.llamacpp_process`, by `grace.serving.embedded`
or `grace serve`. It prints one JSON line when it is ready, and ends when its
standard input closes, so it cannot outlive a parent that was killed.
"""

import argparse
import json
import signal
import sys
import threading


def main(arguments: list[str] | None = None) -> int:
    """Serve until standard input closes or a signal arrives; return the exit status."""
    parser = argparse.ArgumentParser(prog="grace.serving.llamacpp_process")
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tokens-at-once", type=int, default=1)
    options = parser.parse_args(arguments)

    # A heavy, optional extra: only this process needs it.
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.kv_unified = False
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    # The host-side prompt cache may grow to 8 GiB by default.
    params.cache_ram_mib = 0
    # A token that is computed alone takes another path through the arithmetic than several at
    # once, and quantised activations turn that rounding into up to 0.3 nats. Which tokens go
    # together depends on what the cache holds and on who is answered beside: by default all go alone.
    # It halves the speed of reading a prompt; a score then depends on nothing but its query.
    params.n_ubatch = options.tokens_at_once
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # A prompt that does not fit must be refused, not shortened.
    params.ctx_shift = False
    params.ui = False
    params.verbosity = -1

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"listening": server.listening_address}) + "\n")
    sys.stdout.flush()

    def watch() -> None:
        sys.stdin.buffer.read()
        stopped.set()

    threading.Thread(target=watch, daemon=True).start()
    stopped.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
