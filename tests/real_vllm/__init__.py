"""
A real vLLM server: Grace's scores, texts, extraction and whole runs on it.

Run as `make test-vllm`, in an environment of its own. The folder cannot be
called `vllm`: on a path that leads to these tests it would hide the package.
"""
