#!/usr/bin/env bash
# The main job on real texts, from nothing but Python, with no account and no server: the descriptions of the Python
# packages installed here -> JSON extracted -> embedded in this process -> a Milvus Lite file, then three questions.
#
#   ./run_local.sh            everything goes to the folder data/
set -euo pipefail
cd "$(dirname "$0")"
source .ci/venv.sh

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
run() { echo "\$ $*"; "$@"; }

say "1. A virtual environment with vecferry, a local embedding model and Milvus Lite"
use_venv local,milvus
PATH=$(dirname "$PY"):$PATH
echo "$("$PY" --version) in $VENV"

say "2. Real texts: what the packages installed here say of themselves"
run python examples/describe_packages.py data/packages.jsonl

say "3. The job: JSON lines -> json-extracting -> embedding-transformer -> Milvus"
run vecferry run examples/packages-to-milvus.json --data-sources examples/datasources.yaml --report data/report.json

say "4. Does the collection answer?"
ask() {
  echo "\$ vecferry query examples/packages-to-milvus.json --data-sources examples/datasources.yaml -k 3 \"$1\""
  vecferry query examples/packages-to-milvus.json --data-sources examples/datasources.yaml -k 3 "$1"
  echo
}
ask "make HTTP requests"
ask "read environment variables from a file"
ask "fast JSON serialisation"

say "Done: data/vectors.db holds the collection 'packages', data/report.json says what was done."
echo "A second run writes the same rows again under the same keys. Your own job: docs/job-file.md"
echo "The command is $(dirname "$PY")/vecferry; source $(dirname "$PY")/activate puts it on your PATH."
