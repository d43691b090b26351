#!/usr/bin/env bash
# Lint, types and tests. Sets up what it needs.
#
#   bash tests/run.sh                 the default suite, a few minutes on 2 cores
#   bash tests/run.sh --slow          the slow tests too
#   bash tests/run.sh tests/data -k folds    anything else goes to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
. pipelines/setup.sh dev

if [ $# -eq 0 ] || [ "${1:-}" = --slow ]; then
    "$PYTHON" -m ruff check .
    "$PYTHON" -m ruff format --check .
    "$PYTHON" -m mypy
fi
if [ "${1:-}" = --slow ]; then
    shift
    set -- -m "not gpu" "$@"
fi
# The nets here are tiny: a second thread would only wait for the first.
export OMP_NUM_THREADS=1
exec "$PYTHON" -m pytest "$@"
