#!/usr/bin/env bash
# Formatting, lint, types and tests, from nothing but Python: makes its own virtual environment.
#
#   ./run_tests.sh                    everything, in two processes (tests/lanes.py)
#   ./run_tests.sh fast               without tests that are slow or need a server
#   ./run_tests.sh [fast] ARGS…       ARGS go to pytest, e.g. tests/shared/test_core.py -k secret
set -euo pipefail
cd "$(dirname "$0")"
source .ci/venv.sh

use_venv all,dev

only=()
if [ "${1:-}" = fast ]; then
  shift
  only=(-m "not service and not slow")
fi
if [ $# -eq 0 ]; then
  only+=(-n 2)
fi

"$PY" -m ruff format --check .
"$PY" -m ruff check .
"$PY" -m mypy
"$PY" -m pytest "${only[@]}" "$@"
