# shellcheck shell=bash
# Sourced by the other scripts: sets $PYTHON to an interpreter with requirements.txt installed.
#
# Uses the active environment (venv or conda) if there is one; otherwise creates .venv in this project with the first of
# python3.11, python3.12, python3.13. Installs packages again only if a requirements file has changed.
#
#   . pipelines/setup.sh         to run the commands
#   . pipelines/setup.sh dev     to run tests and lint too
#   . pipelines/setup.sh docs    to build the documentation site, and nothing else

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 2
export NO_ALBUMENTATIONS_UPDATE=1

if [ -n "${VIRTUAL_ENV:-}" ] || [ -n "${CONDA_PREFIX:-}" ]; then
    PYTHON=$(command -v python || command -v python3)
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
            exit 2
        fi
        echo "creating .venv with $("$base" --version)"
        "$base" -m venv .venv
    fi
    PYTHON=$root/.venv/bin/python
fi

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: the active environment has $("$PYTHON" --version), 3.11 or newer is needed; deactivate it" >&2
    exit 2
fi

# An environment made by uv has no pip of its own.
if "$PYTHON" -m pip --version > /dev/null 2>&1; then
    install=("$PYTHON" -m pip install --quiet --disable-pip-version-check)
else
    install=(uv pip install --quiet --python "$PYTHON")
fi

files=(requirements.txt)
size=" (a few minutes and about 6 GB the first time)"
[ "${1:-}" = dev ] && files+=(requirements-dev.txt)
[ "${1:-}" = docs ] && files=(requirements-docs.txt) && size=""
# A stamp in the environment lists its installed requirements, so that a second run is immediate and works offline.
stamp=$("$PYTHON" -c 'import sys; print(sys.prefix)')/.podium-requirements
for file in "${files[@]}"; do
    wanted="$file $(cksum < "$file")"
    grep -qxF "$wanted" "$stamp" 2>/dev/null && continue
    echo "installing $file$size"
    "${install[@]}" --requirement "$file"
    echo "$wanted" >> "$stamp"
done
export PYTHON
