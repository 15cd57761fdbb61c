#!/usr/bin/env bash
# Write requirements.lock and requirements-dev.lock from pyproject.toml: every package of every supported Python and
# system with its hashes, and no address of a download in it. Extra arguments go to uv, e.g. `--upgrade`.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
.venv/bin/python -m pip install -qq --target "$tools" uv # thrown away afterwards

lock() {
    "$tools/bin/uv" --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --no-annotate "$@"
}
# The larger set first: it holds the optional solvers' packages, and what everybody installs has to fit with them.
lock pyproject.toml requirements-build.in --group dev --output-file requirements-dev.lock "$@"
lock pyproject.toml requirements-build.in --constraint requirements-dev.lock --output-file requirements.lock "$@"
