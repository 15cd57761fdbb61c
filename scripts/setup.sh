#!/usr/bin/env bash
# Make .venv and install what the lock says: `scripts/setup.sh runtime` or `scripts/setup.sh dev`.
#
# A stamp in .venv holds a fingerprint of everything that the environment depends on, so that a second run is quick
# and a changed lock, another Python or a moved folder sets up again. An environment that works is never deleted.
set -euo pipefail
cd "$(dirname "$0")/.."

kind="${1:-runtime}"
case "$kind" in
    runtime) lock=requirements.lock ;;
    dev) lock=requirements-dev.lock ;;
    *) echo "usage: scripts/setup.sh runtime|dev" >&2; exit 2 ;;
esac
venv=.venv

# Two makes at once would install into each other's hands.
if command -v flock >/dev/null; then
    exec 9>.setup-lock
    flock 9
fi

fingerprint() { # of the kind given
    echo "$1 in $PWD"
    cksum requirements.lock requirements-dev.lock pyproject.toml scripts/setup.sh
    "$venv/bin/python" --version
}

is_current() { # of the kind given
    [ -f "$venv/.setup-$1" ] && [ "$(cat "$venv/.setup-$1")" = "$(fingerprint "$1")" ]
}

is_usable() {
    # The scripts of an environment hold its absolute path: one that was moved or copied does not work.
    local path="$PWD/$venv"
    [ -x "$venv/bin/python" ] \
        && grep -qF -e "=$path" -e "\"$path" -e "'$path" "$venv/bin/activate" 2>/dev/null \
        && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

make_venv() {
    local python
    python="$(scripts/find-python.sh)"
    # Debian keeps the pip that a new environment gets in a package of its own.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            scripts/install-debian.sh package "$package"
        else
            echo "$python can't make environments: its ensurepip is missing." \
                "On Debian: apt-get install $package. Then repeat the command." >&2
            exit 1
        fi
    fi
    echo "Making $venv with $python"
    "$python" -m venv --clear "$venv"
}

# What development needs includes what the service needs, in the same versions.
if is_usable && { is_current "$kind" || is_current dev; }; then
    exit 0
fi
is_usable || make_venv

echo "Installing $lock"
# -qq: pip's warnings about this machine's own configuration are not ours to show; its errors are.
pip() {
    "$venv/bin/python" -m pip "$@"
}
pip install -qq --disable-pip-version-check --require-hashes -r "$lock"
pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
fingerprint "$kind" >"$venv/.setup-$kind"
