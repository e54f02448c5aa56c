#!/bin/sh
# Make sure that images can be built and run here: podman with a runtime, and mmdebstrap for a base.
set -eu
missing=
for program in podman runc mmdebstrap; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
else
    echo "error: images need$missing; run: sudo apt-get install$missing" >&2
    exit 1
fi
