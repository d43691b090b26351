#!/usr/bin/env bash
# Lint, types, known weaknesses and tests. Sets up what it needs.
#
#   bash tests/run.sh                 the default suite, a few minutes on 2 cores, a process for each of up to 8 cores
#   bash tests/run.sh --slow          the slow tests too
#   bash tests/run.sh tests/data -k folds    anything else goes to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
. pipelines/setup.sh dev

if [ $# -eq 0 ] || [ "${1:-}" = --slow ]; then
    "$PYTHON" -m ruff check .
    "$PYTHON" -m ruff format --check .
    "$PYTHON" -m mypy
    # What a search for known weaknesses finds: of the code, the image, the scripts; and secrets in any file.
    bin=$(dirname "$PYTHON")
    "$bin/bandit" --quiet --recursive --severity-level medium src benchmarks pipelines
    "$bin/hadolint" Dockerfile
    "$bin/shellcheck" pipelines/*.sh pipelines/cloud/*.sh benchmarks/*.sh tests/run.sh .ci/run
    echo "bandit, hadolint, shellcheck: nothing found"
    if git rev-parse --git-dir > /dev/null 2>&1; then
        git ls-files -z | xargs -0 "$bin/detect-secrets-hook" --exclude-files 'requirements\.lock|benchmarks/submissions/.*\.json'
        echo "detect-secrets: nothing found"
    else
        echo "detect-secrets: not run, since without git there is no list of our files"
    fi
fi
if [ $# -eq 0 ]; then
    # A file's tests stay together, since they share what the file prepares.
    set -- -n logical --maxprocesses 8 --dist loadfile
elif [ "$1" = --slow ]; then
    shift
    set -- -m "not gpu" "$@"
fi
# The nets here are tiny: a second thread would only wait for the first.
export OMP_NUM_THREADS=1
exec "$PYTHON" -m pytest "$@"
