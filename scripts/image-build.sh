#!/bin/sh
# Build an image of Grace from the working tree.
# usage: image-build.sh runner|cpu-server
#
# ENGINE      podman (default) or buildah
# BASE        a base image with Python 3.11 or newer; by default the one of the build file
# TAG         the image's name; by default localhost/grace-NAME:VERSION
# PIP_CONF    a pip.conf that the build reads, and CA_FILE certificates that it trusts (as
#             /run/secrets/ca.pem); neither gets into the image
# ENGINE_FLAGS, BUILD_FLAGS   of the engine and of its build command
set -eu
cd "$(dirname "$0")/.."

name=$1
engine=${ENGINE:-podman}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ "$revision" != unknown ] && [ -n "$(git status --porcelain -- src deploy requirements pyproject.toml)" ]; then
    revision="$revision-changed"
fi
# Not the time of the commit: what did not change keeps its layer from one revision to the next.
epoch=${SOURCE_DATE_EPOCH:-1767225600}

set -- --file "deploy/$name.Containerfile" --tag "${TAG:-localhost/grace-$name:$version}" \
    --timestamp "$epoch" --build-arg SOURCE_DATE_EPOCH="$epoch" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision"
[ -z "${BASE:-}" ] || set -- "$@" --build-arg BASE="$BASE"
[ -z "${PIP_CONF:-}" ] || set -- "$@" --secret id=pip.conf,src="$PIP_CONF"
[ -z "${CA_FILE:-}" ] || set -- "$@" --secret id=ca.pem,src="$CA_FILE"
# Lists of flags: shellcheck disable=SC2086
case $engine in
    podman) set -- podman ${ENGINE_FLAGS:-} build --layers ${BUILD_FLAGS:-} "$@" . ;;
    buildah) set -- buildah ${ENGINE_FLAGS:-} build --layers ${BUILD_FLAGS:-} "$@" . ;;
    *)
        echo "error: ENGINE is '$engine'; expected podman or buildah (docker: see deploy/README.md)" >&2
        exit 2
        ;;
esac
exec "$@"
