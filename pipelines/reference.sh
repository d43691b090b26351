#!/usr/bin/env bash
# Train one reference net of benchmarks/RESULTS.md, as published or with our recipe, and score it.
#
#   bash pipelines/reference.sh resnet_mnist published
#   bash pipelines/reference.sh resnet_cifar ours --seed 1
#   bash pipelines/reference.sh food_cnn ours --epochs 10 --image-size 64 64      shortened, and labelled as such
#   bash pipelines/reference.sh table                                             all results so far
#
# The recipes are in benchmarks/reference_rows.py. Data: the organiser's files in input/<competition>/.
set -euo pipefail
cd "$(dirname "$0")/.."
. pipelines/setup.sh

if [ "${1:-}" = table ]; then
    exec "$PYTHON" -m benchmarks.reference --table
fi
if [ $# -lt 2 ]; then
    echo "usage: bash pipelines/reference.sh ROW published|ours [--seed N --epochs N --image-size H W], or: table" >&2
    exec "$PYTHON" -m benchmarks.reference
fi
exec "$PYTHON" -m benchmarks.reference --row "$1" --way "$2" "${@:3}"
