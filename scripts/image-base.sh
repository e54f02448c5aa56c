#!/bin/sh
# Make a base image from Debian's packages alone, where no registry can be reached.
# usage: image-base.sh [TAG]    (root; needs mmdebstrap and podman)
#
# It holds what the build files ask of a base: Python 3.11 with venv, certificates, and the
# library of OpenMP that llama.cpp needs.
set -eu
tag=${1:-localhost/grace-base:bookworm}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767225600} mmdebstrap --quiet --variant=minbase \
    --include=python3,python3-venv,ca-certificates,libgomp1 bookworm "$folder/base.tar"
podman import --quiet "$folder/base.tar" "$tag"
