# For tests/run: wheels, and that they run where none of their libraries is.
# shellcheck shell=bash disable=SC2154

wheels=$scratch/wheels
# None of these may be installed where a wheel has to run.
bundled='lib(archive|bson|curl|jansson|mongoc|sqlite3)'

build_wheel() {
    local python=$cache/venv-$1/bin/python raw=$scratch/raw-$1
    "$python" -m pip wheel --quiet --no-deps -w "$raw" "$trees/wheel/tree"
    PATH=$venv/bin:$PATH "$venv/bin/auditwheel" repair -w "$wheels" "$raw"/*.whl
    "$python" -m pip wheel --quiet -w "$wheels" "cloudpickle>=3"
}

smoke_wheel() {
    local clean=$scratch/clean-$1
    "$cache/venv-$1/bin/python" -m venv "$clean"
    "$clean/bin/python" -m pip install --quiet --no-index -f "$wheels" levrt
    cd "$scratch"
    local engine
    for engine in "unix://$socket" "oci:$store"; do
        in_engine env LEVRT_ENGINE="$engine" LEVRT_STORE="sqlite:$clean/lev.db" \
            "$clean/bin/python" "$root/tests/tools/smoke.py" command closure programs mongo
    done
    cd "$root"
}

# Debian's base system and Python, of the release that this is.
debian_root() {
    local codename
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    [ -e "$cache/$codename.tar" ] || {
        mmdebstrap --variant=minbase --include=python3,python3-venv \
            "$codename" "$scratch/debian.tar"
        mv "$scratch/debian.tar" "$cache/$codename.tar"
    }
    docker_cli import "$cache/$codename.tar" levrt-test/debian:1
}

smoke_debian() {
    debian_root
    # Debian's Python links SQLite: it goes before the second run.
    docker_cli run --rm --network none \
        -v "$socket:/engine.sock" -v "$wheels:/wheels:ro" \
        -v "$root/tests/tools:/tools:ro" \
        -e LEVRT_ENGINE=unix:///engine.sock -e LEVRT_STORE=sqlite:/tmp/lev.db \
        levrt-test/debian:1 sh -euxc "
            if ldconfig -p | grep -E '$bundled' | grep -v sqlite3; then exit 1; fi
            python3 -m venv /venv
            /venv/bin/pip install --quiet --no-index -f /wheels levrt
            /venv/bin/python /tools/smoke.py command closure
            rm /usr/lib/*/libsqlite3.so*
            ldconfig
            if ldconfig -p | grep -E '$bundled'; then exit 1; fi
            /venv/bin/python /tools/smoke.py command programs mongo"
}
