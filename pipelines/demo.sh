#!/usr/bin/env bash
# From nothing to a scored submission on synthetic data: house numbers of handwritten digits.
# Installs what it needs; then takes 3 to 4 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. pipelines/setup.sh

"$PYTHON" -m src.make_demo
"$PYTHON" -m src.prepare --competition demo --num-folds 2
"$PYTHON" -m src.train --competition demo --fold all --backbone string_cnn --no-pretrained \
    --epochs 28 --batch-size 32 --lr 3e-3 --dropout 0 --augment.rotate 5 --augment.shift 0.03 --augment.concat 0
"$PYTHON" -m src.evaluate --competition demo
"$PYTHON" -m src.predict --competition demo
"$PYTHON" -m pipelines.demo_score
