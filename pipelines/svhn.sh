#!/usr/bin/env bash
# Street-view house numbers: from the organiser's zips in input/svhn/ to submissions/svhn/baseline.csv.
#
#   bash pipelines/svhn.sh                                            weights from the Hugging Face Hub
#   bash pipelines/svhn.sh --weights tf_efficientnet_lite0.safetensors   or from a file, offline
#
# Flags are passed to src.train. About an hour for five folds of 4,000 images on 2 cores; the full competition has
# 30,000 and 10,000 more to validate on: rent a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
. pipelines/baseline.sh
baseline svhn "" "$@"
