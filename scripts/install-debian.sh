#!/usr/bin/env bash
# Install Debian programs that are missing: as root on a Debian system, by apt-get; else say what is missing.
#
#   scripts/install-debian.sh tests            what the tests use
#   scripts/install-debian.sh demo             what the demonstration uses
#   scripts/install-debian.sh bench            what the benchmarks use besides
#   scripts/install-debian.sh package NAME...  these packages, whatever programs they bring
#
# Exit code 0: all there. 3: something is missing and could not be installed; with CI=true the caller fails then,
# without it tests that need the program skip and say so.
set -euo pipefail

# program and the Debian package that brings it
tests="pebble:pebble pebble-challtestsrv:pebble openssl:openssl named:bind9 haproxy:haproxy nginx:nginx-light softhsm2-util:softhsm2"
demo="openssl:openssl"
bench="pebble:pebble pebble-challtestsrv:pebble lego:lego haproxy:haproxy"

missing=()
case "${1:-}" in
    tests | demo | bench)
        declare -n wanted="$1"
        for pair in $wanted; do
            command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
        done
        ;;
    package) missing=("${@:2}") ;;
    *) echo "usage: scripts/install-debian.sh tests|demo|bench|package NAME..." >&2; exit 2 ;;
esac
[ "${#missing[@]}" -gt 0 ] || exit 0
readarray -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]}. On Debian, as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 3
fi

echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
apt() {
    apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null
}
# The list of packages may be old or absent: an update comes first, once, and its failure is not the last word.
apt update || tail -5 "$log" >&2
if ! apt install --yes --no-install-recommends "${missing[@]}"; then
    tail -20 "$log" >&2
    echo "apt-get could not install: ${missing[*]}" >&2
    exit 3
fi
