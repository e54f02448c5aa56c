"""
A hostile model server: a real HTTP server in a process of its own, told how to misbehave.

`script` says which requests it mistreats, `faults` how, `faces` what it is
underneath (vLLM or llama.cpp), `server` does it, and `process` starts it.
"""
