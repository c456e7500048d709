#!/bin/sh
# Sees to it that commands or files are there, by apt where that may be, and otherwise says in one line how.
#   tools/debian.sh [--optional WHY] WHAT:PACKAGE ...     WHAT is a command, a file or pattern that starts
#   with /, or nothing: then dpkg is asked for PACKAGE
# With --optional a package that cannot be had is no failure.
set -u

optional=
if [ "${1:-}" = --optional ]; then
    optional=$2
    shift 2
fi

there() {
    case $1 in
        "") dpkg -s "$2" >/dev/null 2>&1 ;;
        /*) for found in $1; do [ -e "$found" ] && return 0; done; return 1 ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing() {
    for each in "$@"; do
        there "${each%%:*}" "${each#*:}" || printf '%s ' "${each#*:}"
    done
}

install() {
    # Never a question: not by debconf, not by sudo.
    export DEBIAN_FRONTEND=noninteractive
    root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || return 1
        root="sudo -n DEBIAN_FRONTEND=noninteractive"
    fi
    command -v apt-get >/dev/null 2>&1 || return 1
    # What is installed is for us to start: a Kamailio started as a service would take port 5060.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap '$root rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
        $root chmod 755 "$policy"
    fi
    log=$(mktemp)
    for try in 1 2; do
        if $root apt-get install -y -q --no-install-recommends "$@" </dev/null >"$log" 2>&1; then
            rm -f "$log"
            return 0
        fi
        # The usual reason is that the lists of packages are old or were never fetched.
        [ "$try" = 1 ] && $root apt-get update -q </dev/null >>"$log" 2>&1
    done
    [ -n "$optional" ] || grep '^E:' "$log" >&2
    rm -f "$log"
    return 1
}

packages=$(missing "$@")
[ -z "$packages" ] && exit 0
echo "Installing from Debian: $packages"
# shellcheck disable=SC2086
if install $packages && [ -z "$(missing "$@")" ]; then
    exit 0
fi
packages=$(missing "$@")
if [ -n "$optional" ]; then
    echo "Going on without ${packages}($optional); to have it: apt-get install $packages"
    exit 0
fi
echo "Please run this once as root, then try again: apt-get update && apt-get install $packages" >&2
exit 1
