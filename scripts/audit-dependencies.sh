#!/usr/bin/env bash
# Ask PyPI which releases of requirements.lock have known weaknesses. Fails where there are some, and where the answer
# can't be had for every one of them: not to know is no pass. Extra arguments go to pip-audit, e.g. `-s osv`.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
.venv/bin/python -m pip install -qq --target "$tools" pip-audit # thrown away afterwards

if PYTHONPATH="$tools" .venv/bin/python -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off \
    --timeout 15 -r requirements.lock "$@"; then
    exit 0
fi
echo "Not passed. 'not found on PyPI' means that this network's package index does not tell of weaknesses: run it" >&2
echo "where the package index can be reached, or give another source (ARGS='-s osv')." >&2
exit 1
