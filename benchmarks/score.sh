#!/usr/bin/env bash
# shellcheck disable=SC2086 # lists of flags are split on purpose
# The trainings behind benchmarks/submissions and results/score.md. On one GPU with 16 cores all folds of a run train at
# once, and each part takes two to three minutes; on a CPU run one fold after another and expect hours.
#
#   bash benchmarks/score.sh street RECOGNISER.onnx LITE0.safetensors     street-view: a text recogniser and lite0, blended
#   bash benchmarks/score.sh food LITE2.safetensors                       food-11: lite2, and resnet9 from scratch
#
# RECOGNISER.onnx: PP-OCRv6_rec_small.onnx of the package rapidocr 3.10.0 (see docs/blending.md).
set -euo pipefail
part=$1
shift
files=()
for file in "$@"; do files+=("$(realpath "$file")"); done
cd "$(dirname "$0")/.."
[ -n "${PYTHON:-}" ] || . pipelines/setup.sh
export OMP_NUM_THREADS=1 # a process for each fold

train() { # train FOLDS FLAGS...: all folds at once
    local folds=$1 running=()
    shift
    for fold in $folds; do
        "$PYTHON" -m src.train --fold "$fold" "$@" &
        running+=($!)
    done
    for one in "${running[@]}"; do wait "$one"; done
}

if [ "$part" = street ]; then
    strong="--augment.invert 0.3 --augment.shear 8 --augment.stretch 0.15"
    "$PYTHON" -m src.prepare --num-folds 4 --image-size 48 64
    "$PYTHON" -m src.prepare --num-folds 4 --image-size 64 128
    train "0 1 2 3" --run-name rec64 --backbone text_recognition --weights "${files[0]}" --image-size 48 64 $strong \
        --lr 5e-4 --epochs 14 --augment.concat 0.1
    train "0 1 2 3" --run-name lite0 --weights "${files[1]}" --image-size 64 128 $strong --epochs 40 --drop-path 0.1
    for run in rec64 lite0; do "$PYTHON" -m src.evaluate --run-name $run; done
    "$PYTHON" -m src.blend --run-name rec64 lite0 --name our_networks
else
    food="--competition food11"
    mix="--mixup 0.2 --cutmix 1.0 --augment.zoom 0.3 --label-smoothing 0.1"
    scratch="--backbone resnet9 --no-pretrained --image-size 64 64 --optimizer sgd --lr 0.4 --batch-size 512"
    scratch="$scratch --weight-decay 5e-4 --dropout 0 --label-smoothing 0.1 --ema 0.98 --augment.zoom 0.3 --mixup 0.2"
    "$PYTHON" -m src.prepare $food --num-folds 3 --image-size 64 64
    "$PYTHON" -m src.prepare $food --num-folds 3 --image-size 128 128
    train "0 1 2" $food --run-name lite2 --backbone tf_efficientnet_lite2 --weights "${files[0]}" --image-size 128 128 \
        $mix --epochs 14 --batch-size 128 --lr 3e-3 --drop-path 0.15
    train "0 1 2" $food --run-name scratch $scratch --epochs 30 --cutmix 1.0 --augment.erase 0.3
    train "0 1 2" $food --run-name long $scratch --epochs 50 --augment.erase 0.2
    for run in lite2 scratch long; do "$PYTHON" -m src.evaluate $food --run-name $run; done
    "$PYTHON" -m src.blend $food --run-name lite2 scratch --name pretrained
fi
