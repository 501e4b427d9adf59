#!/usr/bin/env bash
# Formatting, lint, types and tests, from nothing but Python: makes its own virtual environment.
#
#   ./run_tests.sh                    everything, in four processes (tests/lanes.py), in random order;
#                                     then what `lake` and, with Python 3.11, what `lowest` runs
#   ./run_tests.sh fast               without tests that are slow or need a server
#   ./run_tests.sh long               what takes too long for every run: many seeds, kills, cases
#   ./run_tests.sh lowest             fast tests with the lowest allowed version of each dependency
#   ./run_tests.sh lake               tests of lake tables, whose client wants an older pyarrow
#   ./run_tests.sh [fast] ARGS…       ARGS go to pytest, e.g. tests/shared/test_core.py -k secret
set -euo pipefail
cd "$(dirname "$0")"
source .ci/venv.sh

FAST="not service and not slow"

use_venv all,dev

kind=all
case ${1:-} in fast | long | lowest | lake) kind=$1; shift ;; esac

lowest() {
  use_lowest
  local python=$LOWEST/bin/python
  PYTHONPATH=$PWD/src PATH=$LOWEST/bin:$PATH "$python" -m pytest -m "$FAST" "$@"
}

lake() {
  use_lake
  PATH=$LAKE/bin:$PATH "$LAKE/bin/python" -m pytest "$@"
}

# Beside the tests of lake tables, those of what reads with the older pyarrow.
all_of_lake() {
  lake -n 2 --order random --durations 20 "${LAKE_TESTS[@]}"
  lake -n 2 --order random -m "not service" "${ARROW_TESTS[@]}"
}

if [ "$kind" = lake ]; then
  if [ $# -eq 0 ]; then all_of_lake; else lake "$@"; fi
  exit
fi

if [ "$kind" = lowest ]; then
  if [ $# -eq 0 ]; then set -- -n 2 "${LOWEST_TESTS[@]}"; fi
  lowest "$@"
  exit
fi

"$PY" -m ruff format --check .
"$PY" -m ruff check .
"$PY" -m mypy
case $kind in
  fast)
    if [ $# -eq 0 ]; then set -- -n 2 --order random; fi
    "$PY" -m pytest -m "$FAST" "$@"
    ;;
  long)
    # What passes whole modules is noted in tests/LONG.md.
    export VECFERRY_LONG=noted
    for argument in "$@"; do
      if [ ! -e "$argument" ]; then VECFERRY_LONG=1; fi
    done
    if [ $# -eq 0 ]; then
      "$PY" -m pytest -m "long or tries" -n 3
      lake -m "long or tries" -n 2 "${LAKE_TESTS[@]}"
    else
      case $1 in
        tests/io/paimon*) lake -m "long or tries" -n 2 "$@" ;;
        *) "$PY" -m pytest -m "long or tries" -n 3 "$@" ;;
      esac
    fi
    ;;
  all)
    if [ $# -gt 0 ]; then
      exec "$PY" -m pytest "$@"
    fi
    "$PY" -m pytest -n 4 --order random --durations 40
    all_of_lake
    if "$PY" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
      lowest -n 2 "${LOWEST_TESTS[@]}"
    fi
    ;;
esac
