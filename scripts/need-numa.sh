#!/bin/sh
# Make sure that libnuma is there: vLLM's build for CPUs is linked against it.
# usage: need-numa.sh PYTHON
set -eu
python=$1

loads() {
    "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null
}

if ! loads; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libnuma1
    else
        echo "error: vLLM needs libnuma; run: sudo apt-get install libnuma1" >&2
        exit 1
    fi
fi
