# For tests/run: steps and their logs, Python, build trees, test runs.
# shellcheck shell=bash disable=SC2154

main() {
    if [ "${1:-}" = --list ]; then
        printf '%s\n' "${steps[@]}"
        return
    fi
    local step wanted=(packages python)
    for step in "$@"; do
        declare -F "step_$step" >/dev/null || fail "no step $step; see --list"
        [[ " ${wanted[*]} " == *" $step "* ]] || wanted+=("$step")
    done
    [ $# -gt 0 ] || wanted=("${steps[@]}")
    for step in "${wanted[@]}"; do
        # What is named alone brings the engine that it talks to.
        case $step in
        cgroup2 | ctest* | pytest* | leaks | wheel_*)
            [ -e "$scratch/engine" ] || run_step engine
            ;;
        esac
        run_step "$step"
    done
    printf '\n'
    cat "$scratch/summary" 2>/dev/null || true
}

# A step is a process group of its own, so that all of it can be interrupted.
# (And not `if step`: bash would ignore every failure inside but the last.)
run_step() {
    local log=$scratch/logs/$1 start=$SECONDS status
    printf '%-14s' "$1"
    set +e -m
    (
        set -e +m
        trap - EXIT INT TERM HUP
        "step_$1"
    ) >"$log" 2>&1 </dev/null &
    step_pid=$!
    set +m
    wait "$step_pid"
    status=$?
    set -e
    step_pid=
    if [ $status -eq 0 ]; then
        printf ' ok %4d s\n' $((SECONDS - start))
    else
        printf ' FAILED after %d s\n' $((SECONDS - start))
        cat "$log"
        exit 1
    fi
}

# A line that is shown again at the very end.
summarize() { printf '%-14s %s\n' "$1" "$2" >>"$scratch/summary"; }

interrupt() {
    if [ -n "${step_pid:-}" ]; then
        kill -- "-$step_pid"
        wait "$step_pid" || true
    fi
    exit 130
}

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    stop_engine
    rm -rf --one-file-system "$scratch"
    exit $status
}

# The interpreter itself (no shim) of a version that has headers and venv.
python_for() {
    local candidate
    for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python3 \
        "/usr/bin/python$1"; do
        "$candidate" - "$1" 2>/dev/null <<'PYTHON' && return
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
assert "%d.%d" % sys.version_info[:2] == sys.argv[1] and os.path.exists(header)
print(os.path.realpath(sys.executable))
PYTHON
    done
    return 1
}

make_venv() {
    "$2/bin/python" -c pass 2>/dev/null || "$1" -m venv --clear "$2"
}

# Versions of Python that there is an environment for.
versions() {
    local path
    for path in "$cache"/venv-3.*; do
        printf '%s\n' "${path##*-}"
    done
}

# The sources as they are here, without what builds have put beside them. Times
# are kept: a second build makes only what has changed.
copy_tree() {
    rm -rf "$1"
    mkdir -p "$1"
    git ls-files -co --exclude-standard -z |
        while IFS= read -r -d '' file; do
            [ ! -e "$file" ] || printf '%s\0' "$file"
        done | tar --null -T - -cf - | tar -xf - -C "$1"
}

configure() {
    local source=$1 build=$2
    shift 2
    cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DCMAKE_C_FLAGS= "-DPython_EXECUTABLE=$venv/bin/python" "$@"
}

# A build puts the extension beside its sources: each has sources of its own.
build_tree() {
    local name=$1
    shift
    copy_tree "$trees/$name/tree"
    configure "$trees/$name/tree" "$trees/$name/build" "$@"
    cmake --build "$trees/$name/build"
}

run_ctest() {
    local log=$scratch/ctest-$1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    # Libraries are not built for it: how they keep order it cannot see.
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
    TSAN_OPTIONS+=:ignore_noninstrumented_modules=1
    export ASAN_OPTIONS=detect_stack_use_after_return=1
    # TSan's shadow memory needs addresses that are not random.
    in_engine setarch -R ctest --test-dir "$trees/$1/build" \
        --output-on-failure --no-tests=error -j 2 | tee "$log"
    ! grep -E '\*\*\*(Skipped|Not Run)' "$log" || fail "tests were skipped"
    summarize "ctest $1" "$(grep 'tests passed' "$log")"
}

# run_pytest DIRECTORY ARGUMENTS…
run_pytest() {
    local log name=pytest
    [ "$1" = "$root" ] || name="pytest asan"
    [[ "$*" != *leaks* ]] || name="pytest leaks"
    [ -z "${LEVRT_TEST_ENGINE:-}" ] || name="pytest $LEVRT_TEST_ENGINE"
    log="$scratch/$name"
    cd "$1"
    shift
    # What is started in the background would ignore Ctrl-C.
    in_engine env --default-signal=INT CI=true PYTHONDONTWRITEBYTECODE=1 \
        "$venv/bin/python" -m pytest -p no:cacheprovider \
        --basetemp="$scratch/t" "$@" | tee "$log" # short: sockets are below it
    cd "$root"
    local last
    last=$(tail -n 1 "$log")
    [[ ! "$last" =~ [0-9]+\ (skipped|deselected) ]] || fail "tests were skipped"
    summarize "$name" "$last"
}
