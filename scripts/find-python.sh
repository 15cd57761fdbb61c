#!/usr/bin/env bash
# Print the Python that the environment is made with: $PYTHON if set, else the first 3.11 or newer that runs.
set -euo pipefail

for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
echo "No Python 3.11 or newer found (looked for: ${PYTHON:-python3 python3.11 python3.12 python3.13})." \
    "Install one, or name it: make setup PYTHON=/path/to/python3" >&2
exit 1
