# shellcheck shell=bash
# Sourced by run_tests.sh and run_local.sh: `use_venv EXTRAS` leaves the path of a ready Python in $PY.
# The environment is .venv in the checkout, or $VECFERRY_VENV. It is installed anew only when
# pyproject.toml or setup.py changed, so that a second run is quick.

# What is imported is compiled once: hundreds of processes import it, and Beam takes three seconds to compile.
unset PYTHONDONTWRITEBYTECODE

# The first Python of 3.11 to 3.13 on the path, $PYTHON before all others.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "vecferry needs Python 3.11, 3.12 or 3.13; found $(python3 --version 2>/dev/null || echo none)." >&2
  echo "Install one of them, or name it: PYTHON=/path/to/python3.12 $0" >&2
  return 2
}

make_venv() {
  local python
  python=$(find_python)
  echo "Making a virtual environment in $VENV with $("$python" --version) …"
  rm -rf "$VENV"
  if ! "$python" -m venv "$VENV"; then
    rm -rf "$VENV"
    echo "$python -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2
    return 2
  fi
}

# $1: the extras, such as all,dev. Whatever has all,dev serves every smaller wish, too.
use_venv() {
  VENV=${VECFERRY_VENV:-$PWD/.venv}
  PY=$VENV/bin/python
  # A folder that somebody else made is not ours to remove.
  if [ -d "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
    echo "$VENV is not a virtual environment; remove it, or set VECFERRY_VENV to another folder" >&2
    return 2
  fi
  "$PY" -c 'import pip' 2>/dev/null || make_venv

  local wanted stamp
  wanted=$("$PY" -c '
import hashlib, pathlib, sys
files = b"".join(pathlib.Path(f).read_bytes() for f in ("pyproject.toml", "setup.py"))
print(hashlib.sha256(files + sys.version.encode() + str(pathlib.Path.cwd()).encode()).hexdigest())')
  for stamp in "$VENV/.installed-all,dev" "$VENV/.installed-$1"; do
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
      return
    fi
  done
  echo "Installing vecferry[$1] into $VENV …"
  # Not compiled: Python compiles what is imported, which is a fraction of it.
  "$PY" -m pip install --quiet --no-compile --disable-pip-version-check --editable ".[$1]"
  echo "$wanted" > "$VENV/.installed-$1"
}

# The tests of what depends on others' packages.
# shellcheck disable=SC2034
LOWEST_TESTS=(tests/shared tests/io tests/transforms tests/pipelines/{cli,job,templates})

# The tests of the lake's client, which wants an older pyarrow, and of what else reads with pyarrow:
# of these, without the tests of servers, which do not know pyarrow.
# shellcheck disable=SC2034
LAKE_TESTS=(
  tests/io/paimon tests/contracts/test_lake_sources.py
  "tests/test_docs.py::test_what_a_page_shows_runs[lake.md]"
  "tests/pipelines/test_beam_yaml.py::test_a_table_is_read[paimon-schema]"
  "tests/pipelines/test_beam_yaml.py::test_a_table_is_read[paimon-no schema]"
  "tests/pipelines/templates/test_templates.py::test_a_template_with_what_it_needs_is_a_valid_job[paimon-to-elasticsearch]"
  "tests/test_examples.py::test_examples_are_valid[lake-to-milvus.json]"
  tests/test_examples.py::test_a_lake_table_into_milvus_lite
)
# shellcheck disable=SC2034
ARROW_TESTS=(tests/io/files tests/io/odps)

# Leaves in $KEPT the path of an environment that the cache folder keeps: $1 is its kind, $2 what
# else than pyproject.toml and Python tells such environments apart. Fails if the environment is still
# to be made; `keep` then says that it is made. Between the two, no other process makes one.
kept() {
  local cache key
  cache=${VECFERRY_SERVICES:-${XDG_CACHE_HOME:-$HOME/.cache}/vecferry-services}
  key=$("$PY" -c '
import hashlib, pathlib, sys
told = sys.version + sys.argv[1]
print(hashlib.sha256(pathlib.Path("pyproject.toml").read_bytes() + told.encode()).hexdigest()[:16])' "$2")
  KEPT=$cache/$1/$key
  mkdir -p "$cache/$1"
  exec 9>"$cache/$1/.lock"
  if command -v flock >/dev/null; then flock 9; fi
  if [ -e "$KEPT/.complete" ]; then
    exec 9>&-
    return
  fi
  find "$cache/$1" -mindepth 1 -maxdepth 1 -type d -mtime +7 -exec rm -rf {} +
  rm -rf "$KEPT"
  export UV_CACHE_DIR=$cache/uv
  "$PY" -m uv venv --quiet --python "$PY" "$KEPT"
  return 1
}

keep() {
  touch "$KEPT/.complete"
  exec 9>&-
}

# Leaves in $LAKE an environment with the lake's client beside all else. After `use_venv all,dev`.
use_lake() {
  if ! kept lake "$PWD"; then
    echo "Installing vecferry[all,dev,paimon] into $KEPT …"
    "$PY" -m uv pip install --quiet --python "$KEPT/bin/python" --editable ".[all,dev,paimon]"
    keep
  fi
  LAKE=$KEPT
}

# Leaves in $LOWEST an environment of the lowest allowed versions. Some have no wheel for a Python
# newer than the lowest, 3.11. After `use_venv all,dev`.
use_lowest() {
  if ! "$PY" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "The lowest versions are tested with Python 3.11: PYTHON=/path/to/python3.11 VECFERRY_VENV=… $0 lowest" >&2
    return 2
  fi
  if ! kept lowest ""; then
    echo "Installing the lowest allowed versions into $KEPT …"
    "$PY" -m uv pip install --quiet --python "$KEPT/bin/python" --resolution lowest-direct \
      --requirements pyproject.toml --extra all
    "$PY" -m uv pip install --quiet --python "$KEPT/bin/python" \
      'pytest>=9,<10' 'pytest-xdist>=3.7,<4' 'hypothesis>=6.100' 'jsonschema>=4.20' \
      'cronsim>=2.6' 'hera>=5.20' 'keyrings.alt>=5' 'markdown-it-py>=3' 'tree-sitter-python>=0.23'
    keep
  fi
  LOWEST=$KEPT
}
