#!/bin/sh
# Make a virtual environment, on a machine that may lack the venv package.
# usage: make-venv.sh PYTHON FOLDER
set -eu
python=$1
folder=$2

"$python" - <<'CHECK' || { echo "error: Python 3.11 or newer is needed; give it as make PYTHON=python3.x" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian and Ubuntu keep venv in a package of its own.
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv"
    else
        echo "error: the venv module is missing; run: sudo apt-get install python$version-venv" >&2
        exit 1
    fi
fi
rm -rf "$folder"
"$python" -m venv "$folder"
