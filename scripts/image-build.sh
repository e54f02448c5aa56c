#!/bin/sh
# Build an image of Grace from the working tree, or list what is in one.
# usage: image-build.sh runner|cpu-server [FLAG ...]
#        image-build.sh sbom runner|cpu-server [FLAG ...]    writes FOLDER/grace-NAME.cdx.json
#
# ENGINE      podman (default) or buildah; FLAGs are those of its build command
# BASE        a base image with Python 3.11 or newer; by default the one of the build file
# TAG         the image's name; by default localhost/grace-NAME:VERSION
# CA_FILE     certificates that pip trusts during the build, by default those of PIP_CERT
# PIP_CONF    a pip.conf for the build; it may say: cert = /run/secrets/ca.pem
#             (neither of the two gets into the image)
# FOLDER      of lists; by default dist/sbom
set -eu
cd "$(dirname "$0")/.."

name=$1
shift
case ${ENGINE:-podman} in
    podman) engine=scripts/podman.sh ;;
    buildah) engine=buildah ;;
    *)
        echo "error: ENGINE is '$ENGINE'; expected podman or buildah (docker: deploy/README.md)" >&2
        exit 2
        ;;
esac
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
# Not the time of the commit: what did not change keeps its layer from one revision to the next.
epoch=${SOURCE_DATE_EPOCH:-1767225600}

if [ "$name" = sbom ]; then
    title=grace-$1
    shift
    folder=${FOLDER:-dist/sbom}
    mkdir -p "$folder"
    set -- "$@" --file deploy/sbom.Containerfile --output "type=local,dest=$folder" \
        --build-arg IMAGE="${TAG:-localhost/$title:$version}" --build-arg TITLE="$title"
else
    # The labels again as flags: buildah 1.28 takes a cached LABEL though an argument has changed.
    revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
    if [ -n "$(git status --porcelain -- src deploy requirements pyproject.toml 2>/dev/null)" ]; then
        revision="$revision-changed"
    fi
    set -- "$@" --file "deploy/$name.Containerfile" --timestamp "$epoch" \
        --tag "${TAG:-localhost/grace-$name:$version}" --build-arg REVISION="$revision" \
        --label org.opencontainers.image.version="$version" \
        --label org.opencontainers.image.revision="$revision"
    [ -z "${BASE:-}" ] || set -- "$@" --build-arg BASE="$BASE"
fi

ca_file=${CA_FILE:-${PIP_CERT:-}}
pip_conf=${PIP_CONF:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "$ca_file" ]; then
    set -- "$@" --secret id=ca.pem,src="$ca_file"
    if [ -z "$pip_conf" ]; then
        pip_conf=$folder/pip.conf
        printf '[global]\ncert = /run/secrets/ca.pem\n' >"$pip_conf"
    fi
fi
[ -z "$pip_conf" ] || set -- "$@" --secret id=pip.conf,src="$pip_conf"

"$engine" build --layers --network host --build-arg SOURCE_DATE_EPOCH="$epoch" \
    --build-arg VERSION="$version" "$@" .
