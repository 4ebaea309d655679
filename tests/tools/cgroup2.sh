#!/usr/bin/env bash
# Runs a command on a Linux whose only control groups are cgroup v2.
#
# usage: cgroup2.sh [-t SECONDS] [-d DIRECTORY]… COMMAND [ARGUMENT…]
#
# The machine may have another kind: the command runs in user-mode Linux, a
# kernel that is a process (Debian's package of that name). It sees the machine's
# files, read-only, as root, with this environment and working directory. /tmp,
# /var/tmp and /run are empty there, but for what -d names. No network leads out.
# Its output is the command's (of both streams), and so is the exit status; 124
# when SECONDS (default 300) were not enough. Nothing is left in any case.
set -euo pipefail

main() {
    local seconds=300 option OPTIND
    local directories=("$PWD")
    while getopts t:d: option; do
        case $option in
        t) seconds=$OPTARG ;;
        d) directories+=("$OPTARG") ;;
        *) usage ;;
        esac
    done
    shift $((OPTIND - 1))
    [ $# -gt 0 ] || usage
    [ "$(id -u)" -eq 0 ] || fail "not root"
    command -v linux.uml >/dev/null || fail "the package user-mode-linux is missing"
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/levrt-cgroup2.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT TERM HUP
    say_what_to_run "$@" >"$scratch/command"
    printf '%s\n' "${directories[@]}" >"$scratch/directories"
    boot "$seconds"
}

usage() {
    sed -n '4s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

fail() {
    printf 'cgroup2.sh: %s\n' "$@" >&2
    exit 125
}

say_what_to_run() {
    export -p | sed '/^declare -x TMPDIR/d; /^declare -x PATH/d'
    printf 'cd %q\n' "$PWD"
    # Its nftables lack the family ip, and so it is iptables of before.
    printf 'export PATH=/run/bin:%q\n' "$PATH"
    printf '%q ' "$@"
    printf '\n'
}

# In a process namespace: with its first process, all of that kernel's go. The
# kernel's own words are on 1 and 2, its console is 3.
boot() {
    local kernel status=0
    kernel=(
        linux.uml mem=2G quiet loglevel=0 "uml_dir=$scratch" umid=levrt
        rootfstype=hostfs rootflags=/ ro "init=$(init)"
        con=null con0=null,fd:3 "LEVRT_SCRATCH=$scratch"
    )
    timeout --signal=KILL "$1" unshare --pid --fork --kill-child --mount-proc \
        env -i PATH="$PATH" TMPDIR="$scratch" sh -c '"$@"; exit $?' sh "${kernel[@]}" \
        3>&1 >"$scratch/kernel" 2>&1 </dev/null || status=$?
    if [ -s "$scratch/status" ]; then
        exit "$(cat "$scratch/status")"
    fi
    if [ $status -eq 137 ]; then
        printf 'cgroup2.sh: not done after %s s\n' "$1" >&2
        exit 124
    fi
    cat "$scratch/kernel" >&2
    fail "user-mode Linux ended by itself (status $status)"
}

init() {
    printf '%s/cgroup2-init.sh\n' \
        "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
}

main "$@"
