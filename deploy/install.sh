#!/bin/sh
# What the build stages of the images run: one layer of the image under /out for each call.
# usage: install.sh packages LOCK    everything that Grace needs, as locked
#        install.sh grace VERSION    Grace itself, from the source in the working directory
#        install.sh weights KEY      the weights of a model of the catalogue, verified
#
# Two builds of the same source on the same base give the same bytes: packages are locked by
# hash, bytecode holds hashes instead of times, and every file carries SOURCE_DATE_EPOCH.
set -eu

home=/opt/grace
tools=/tmp/tools
store=/opt/grace-cache
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
# Marshalled sets of strings follow the order of their hashes; and what runs before `compile`
# would leave bytecode with times in it.
export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
umask 022

# Without a compiler, a package that has no wheel must fail here and by name.
pip_install() {
    "$tools/bin/python" -m pip --python "$home/bin/python" install --quiet --no-compile \
        --only-binary :all: "$@"
}

# unchecked: nobody can change a source in a read-only image, so nothing has to be looked up.
compile() {
    "$home/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$@"
}

settle() {
    chmod -R u=rwX,go=rX "$1"
    find "$1" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}

packages() {
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --require-hashes --only-binary :all: \
        -r requirements/build.txt
    python3 -m venv --without-pip "$home"
    rm -f "$home"/bin/activate* "$home"/bin/Activate.ps1
    pip_install --require-hashes -r "$1"
    # A third of pandas is its tests.
    for package in numpy pandas scipy; do
        find "$home"/lib/python3*/site-packages/"$package" -type d -name tests -prune \
            -exec rm -r {} +
    done
    compile "$home/lib"
    mkdir -p /out/packages/opt /out/packages/etc /out/packages/grace
    cp -a "$home" /out/packages/opt/
    # Any uid may run the image; this one has a name.
    cp /etc/passwd /etc/group /out/packages/etc/
    echo 'grace:x:10001:10001:Grace:/tmp:/usr/sbin/nologin' >>/out/packages/etc/passwd
    echo 'grace:x:10001:' >>/out/packages/etc/group
    settle /out/packages
}

grace() {
    # uv_build looks for its program on the path.
    PATH="$tools/bin:$PATH" "$tools/bin/python" -m pip wheel --quiet --no-deps --no-index \
        --no-build-isolation --wheel-dir /tmp/wheel .
    pip_install --no-deps --no-index /tmp/wheel/grace-*.whl
    found=$("$home/bin/grace" --version)
    if [ "$found" != "grace $1" ]; then
        echo "error: VERSION is $1, and the source is $found; build with --build-arg VERSION=${found#grace }" >&2
        exit 1
    fi
    site=$(echo "$home"/lib/python3*/site-packages)
    compile "$site/grace"
    mkdir -p "/out/grace$home/bin" "/out/grace$site"
    cp -a "$home/bin/grace" "/out/grace$home/bin/"
    cp -a "$site/grace" "$site"/grace-*.dist-info "/out/grace$site/"
    settle /out/grace
}

weights() {
    GRACE_CACHE="/out/weights$store" "$home/bin/grace" models pull "$1"
    settle /out/weights
    # The receipt names the files' times, which have just been changed; this verifies the files
    # again, fetches nothing, and writes another.
    GRACE_CACHE="/out/weights$store" PIP_NO_INDEX=1 "$home/bin/grace" models pull "$1"
    settle /out/weights
}

"$@"
