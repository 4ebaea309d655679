#!/usr/bin/env bash
# What is tested where cgroups are v2 alone; cgroup2.sh runs it.
#
# usage: cgroup2-tests.sh BUILD PYTHON IMAGE
#
# BUILD is a build tree, IMAGE an archive of levrt-test/busybox:1. The machine is
# slow, and so these are the tests of what cgroups do: limits, what is too much,
# kills, and that nothing is left. In the working directory is the extension.
set -euo pipefail
build=$1 python=$2 image=$3

# Not oci_network: it takes single rules away by nft, and this kernel's nftables
# have no family ip (levrt itself falls back to iptables, as all of these show).
# Not oci_seccomp, oci_isolation and oci_daemon: no business of cgroups.
c_tests='oci|oci_reaper|oci_refused'

files=(tests/integration/test_{options,failures,cr,reaper}.py)
topics="memory or swap or processor or pids or devices or published or privileged
    or 137 or killed or timeout or forked"
left_out=(
    # This kernel has one processor and no controller cpuset.
    tests/integration/test_options.py::test_processors_by_number
)

run_c_tests() {
    mount -t tmpfs tmpfs "$build/Testing" # for the logs of ctest
    ctest --test-dir "$build" --output-on-failure --no-tests=error \
        -R "^($c_tests)\$"
}

# The least that works, by each runtime.
run_smoke() {
    local runtime
    "$build/tests/c/imagetool" /var/tmp/smoke load "$image"
    for runtime in crun runc; do
        PYTHONPATH=$PWD LEVRT_ENGINE=oci:/var/tmp/smoke LEVRT_OCI_RUNTIME=$runtime \
            LEVRT_STORE=sqlite:/var/tmp/smoke.db XDG_CACHE_HOME=/var/tmp/cache \
            "$python" tests/tools/smoke.py command closure
    done
}

run_pytest() {
    local options=() name
    for name in "${left_out[@]}"; do
        options+=(--deselect "$(sed 's/$/[oci]/' <<<"$name")")
    done
    mkdir /var/tmp/store
    LEVRT_TEST_ENGINE=oci LEVRT_TEST_OCI=oci:/var/tmp/store \
        LEVRT_TEST_IMAGETOOL="$build/tests/c/imagetool" CI=true \
        "$python" -m pytest -p no:cacheprovider --color=no --basetemp=/tmp/t \
        --durations=10 -k "$(tr '\n' ' ' <<<"$topics")" "${options[@]}" "${files[@]}"
}

export PYTHONDONTWRITEBYTECODE=1
run_c_tests
run_smoke
run_pytest
