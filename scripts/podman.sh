#!/usr/bin/env bash
# podman, on machines where its defaults do not work.
# usage: podman.sh COMMAND ...    as podman's own
set -euo pipefail
command=$1
shift
flags=()
# crun refuses control groups that are partly of the first version.
if [ ! -e /sys/fs/cgroup/cgroup.controllers ] && command -v runc >/dev/null; then
    flags+=(--runtime runc)
fi
limits=()
if [ "$command" = run ] || [ "$command" = build ]; then
    # podman asks for more than a machine that is itself confined may give.
    for kind in nofile:n:1048576 nproc:u:4194304; do
        IFS=: read -r name letter wanted <<<"$kind"
        most=$(ulimit "-H$letter")
        if [ "$most" != unlimited ] && [ "$most" -lt "$wanted" ]; then
            limits+=(--ulimit "$name=4096:4096")
        fi
    done
fi
exec podman ${flags[@]+"${flags[@]}"} "$command" ${limits[@]+"${limits[@]}"} "$@"
