#!/usr/bin/env bash
# The documentation site, from README.md, docs/ and benchmarks/ into site/: open site/index.html.
# Installs MkDocs (requirements-docs.txt) if it is not there; then takes a few seconds, offline.
set -euo pipefail
cd "$(dirname "$0")/.."
. pipelines/setup.sh docs

"$PYTHON" -m pipelines.site "$@"
