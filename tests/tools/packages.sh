# Debian packages, for tests/run and tests/quickstart.
# shellcheck shell=bash

fail() {
    printf '%s\n' "$@" >&2
    return 1
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Of those named: what is missing is installed.
need_packages() {
    local missing=() package
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

install_packages() {
    [ "$(id -u)" -eq 0 ] || fail "not root, and these are missing: $*"
    export DEBIAN_FRONTEND=noninteractive
    # Daemons are started by who needs them; packages must not start any.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=1
    fi
    local status=0
    apt-get install -y --no-install-recommends "$@" ||
        { apt-get update && apt-get install -y --no-install-recommends "$@"; } ||
        status=$?
    [ -z "$made" ] || rm $policy
    return $status
}
