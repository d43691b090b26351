# shellcheck shell=bash
# Sourced by the other scripts: sets $PYTHON to an interpreter with requirements.txt installed.
#
# Uses the active environment (venv or conda) if there is one; otherwise creates .venv in this project with the first of
# python3.11, python3.12, python3.13. Packages are installed only if one is missing or of another version, so that a
# second run is quick and works offline, whatever happened to the environment in between.
#
#   . pipelines/setup.sh         to run the commands
#   . pipelines/setup.sh dev     to run tests and lint too
#   . pipelines/setup.sh docs    to build the documentation site, and nothing else

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || return 2
export NO_ALBUMENTATIONS_UPDATE=1

# In an interactive shell a failure must not close it: every mistake returns, and a script with set -e ends.
active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
if [ -n "$active" ]; then
    PYTHON=$active/bin/python # not what comes first on PATH: sudo keeps the one variable and resets the other
    [ -x "$PYTHON" ] || PYTHON=$(command -v python || command -v python3 || echo "$PYTHON")
else
    if [ ! -x .venv/bin/python ]; then
        base=""
        for candidate in python3.11 python3.12 python3.13 python3; do
            if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                base=$candidate
                break
            fi
        done
        if [ -z "$base" ]; then
            echo "error: Python 3.11 or newer with venv is needed (Debian: apt-get install python3-venv)" >&2
            return 2
        fi
        echo "creating .venv with $("$base" --version)"
        "$base" -m venv .venv || return 2
    fi
    PYTHON=$root/.venv/bin/python
fi

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: $PYTHON is not Python 3.11 or newer; deactivate the active environment, or remove .venv" >&2
    return 2
fi

# Whether a requirements file is installed: each line NAME==VERSION, whatever local part (+cu130) the version has.
installed='
import sys
from importlib.metadata import PackageNotFoundError, version
for line in open(sys.argv[1], encoding="utf-8"):
    name, pinned, wanted = line.split("#")[0].split(";")[0].strip().partition("==")
    try:
        if pinned and version(name.split("[")[0]).split("+")[0] != wanted:
            sys.exit(1)
    except PackageNotFoundError:
        sys.exit(1)
'
files=(requirements.txt)
size=" (a few minutes and about 6 GB the first time)"
[ "${1:-}" = dev ] && files+=(requirements-dev.txt)
[ "${1:-}" = docs ] && files=(requirements-docs.txt) && size=""
for file in "${files[@]}"; do
    "$PYTHON" -c "$installed" "$file" && continue
    echo "installing $file$size"
    # An environment made by uv has no pip of its own; one whose making was interrupted lacks it too.
    if "$PYTHON" -m pip --version > /dev/null 2>&1; then
        install=("$PYTHON" -m pip install --quiet --disable-pip-version-check)
    elif command -v uv > /dev/null; then
        install=(uv pip install --quiet --python "$PYTHON")
    else
        "$PYTHON" -m ensurepip --default-pip > /dev/null || return 2
        install=("$PYTHON" -m pip install --quiet --disable-pip-version-check)
    fi
    if ! "${install[@]}" --requirement "$file"; then
        echo "error: $file was not installed; see the lines above" >&2
        return 2
    fi
done
export PYTHON
