#!/usr/bin/env bash
# shellcheck disable=SC2086 # lists of flags are split on purpose
# The trainings behind benchmarks/submissions and results/score.md, and what each change of a recipe gains alone.
#
#   bash benchmarks/score.sh street RECOGNISER.onnx LITE0.safetensors LITE2.safetensors
#   bash benchmarks/score.sh food LITE1.safetensors LITE2.safetensors      food-11: pretrained, and resnet9 from scratch
#   bash benchmarks/score.sh instances                                     food-11: pretrained without labels, after `food`
#   bash benchmarks/score.sh ablation LITE0.safetensors                    street-view, one change at a time
#   bash benchmarks/score.sh distil LITE0.safetensors                      street-view, a small network taught by rec64_1
#   bash benchmarks/score.sh synthetic LITE0.safetensors FONTS             street-view, strings drawn with a folder's fonts
#
# All folds of a run train at once: on one GPU with 16 cores a run takes one to five minutes. On a CPU set AT_ONCE=1 and
# expect hours. RECOGNISER.onnx: PP-OCRv6_rec_small.onnx of the package rapidocr 3.10.0 (see docs/blending.md).
set -euo pipefail
part=$1
shift
files=()
for file in "$@"; do files+=("$(realpath "$file")"); done
cd "$(dirname "$0")/.."
[ -n "${PYTHON:-}" ] || . pipelines/setup.sh
export OMP_NUM_THREADS=1 # a process for each fold

train() { # train FOLDS FLAGS...: as many folds at once as AT_ONCE says, all by default
    local folds=$1
    shift
    echo "$folds" | tr ' ' '\n' | xargs -P "${AT_ONCE:-0}" -I{} "$PYTHON" -m src.train --fold {} "$@"
}

food="--competition food11"
mix="--mixup 0.2 --cutmix 1.0 --augment.zoom 0.3 --label-smoothing 0.1 --batch-size 128 --lr 3e-3"
scratch="--backbone resnet9 --image-size 64 64 --optimizer sgd --batch-size 512"
scratch="$scratch --weight-decay 5e-4 --dropout 0 --label-smoothing 0.1 --augment.zoom 0.3 --mixup 0.2 --augment.erase 0.2"
long="--epochs 110 --cutmix 1.0 --ema 0.99"

if [ "$part" = street ]; then
    strong="--augment.invert 0.3 --augment.shear 8 --augment.stretch 0.15"
    recogniser="--backbone text_recognition --weights ${files[0]} --image-size 48 64 $strong --lr 5e-4 --epochs 14"
    "$PYTHON" -m src.prepare --num-folds 4 --image-size 48 64
    "$PYTHON" -m src.prepare --num-folds 4 --image-size 64 128
    train "0 1 2 3" --run-name rec64 $recogniser --augment.concat 0.1
    train "0 1 2 3" --run-name rec64_1 $recogniser --augment.concat 0.1 --seed 1
    train "0 1 2 3" --run-name lite0 --weights "${files[1]}" --image-size 64 128 $strong --epochs 40 --drop-path 0.1
    train "0 1 2 3" --run-name lite2 --backbone tf_efficientnet_lite2 --weights "${files[2]}" --image-size 64 128 \
        $strong --epochs 50 --drop-path 0.1
    for run in rec64 rec64_1 lite0 lite2; do "$PYTHON" -m src.evaluate --run-name $run; done
    "$PYTHON" -m src.blend --run-name rec64 rec64_1 lite2 lite0 --name our_networks
elif [ "$part" = food ]; then
    lite2="--backbone tf_efficientnet_lite2 --weights ${files[1]}"
    "$PYTHON" -m src.prepare $food --num-folds 3 --image-size 64 64
    "$PYTHON" -m src.prepare $food --num-folds 3 --image-size 128 128
    train "0 1 2" $food --run-name lite2_128 $lite2 --image-size 128 128 $mix --epochs 14 --drop-path 0.15
    train "0 1 2" $food --run-name scratch_50 --no-pretrained $scratch --lr 0.4 --epochs 50 --ema 0.98
    for run in lite2_128 scratch_50; do
        "$PYTHON" -m src.evaluate $food --run-name $run
        "$PYTHON" -m src.predict $food --run-name $run
        "$PYTHON" -m benchmarks.pack_run $food --run-name $run --out $run.npz # other folds: joins as another tool's would
    done
    for size in 64 144 160 192; do "$PYTHON" -m src.prepare $food --num-folds 4 --image-size $size $size; done
    train "0 1 2 3" $food --run-name scratch --no-pretrained $scratch --lr 0.4 $long
    train "0 1 2 3" $food --run-name lite2 $lite2 --image-size 160 160 $mix --epochs 20 --drop-path 0.2
    train "0 1 2 3" $food --run-name lite1 --backbone tf_efficientnet_lite1 --weights "${files[0]}" \
        --image-size 144 144 $mix --epochs 16 --drop-path 0.15 --seed 1
    train "0 1 2 3" $food --run-name lite2_192 $lite2 --image-size 192 192 $mix --epochs 18 --drop-path 0.2 --seed 2
    for run in scratch lite2 lite1 lite2_192; do "$PYTHON" -m src.evaluate $food --run-name $run; done
    "$PYTHON" -m src.blend $food --run-name lite2 lite1 scratch --external lite2_128.npz --name food_four_runs
    "$PYTHON" -m src.blend $food --run-name scratch --external scratch_50.npz --name food_two_runs
elif [ "$part" = instances ]; then
    "$PYTHON" -m src.prepare --competition food11:instances --image-size 64 64
    train 0 --competition food11:instances --run-name alone --backbone resnet9 --no-pretrained --image-size 64 64 \
        --epochs 150 --batch-size 256 --dropout 0 --label-smoothing 0.1 --augment.crop 0.3 --augment.saturation 0.4 \
        --augment.contrast 0.4 --augment.erase 0.2
    train "0 1 2 3" $food --run-name tuned $scratch --lr 0.2 $long --weights runs/food11_instances/alone/fold0/last.safetensors
    "$PYTHON" -m src.evaluate $food --run-name tuned
    "$PYTHON" -m src.blend $food --run-name lite2_192 lite2 lite1 scratch tuned --external lite2_128.npz --name food_pretrained
    "$PYTHON" -m src.blend $food --run-name scratch tuned --external scratch_50.npz --name food_from_scratch
elif [ "$part" = distil ]; then
    "$PYTHON" -m src.prepare --num-folds 4 --image-size 40 80
    for seed in 0 1; do
        common=(--fold 0 --image-size 40 80 --weights "${files[0]}" --seed "$seed")
        "$PYTHON" -m src.train "${common[@]}" --run-name student-s$seed --epochs 12 --pseudo-labels rec64_1
        "$PYTHON" -m src.train "${common[@]}" --run-name plain18-s$seed --epochs 18
    done
elif [ "$part" = synthetic ]; then
    "$PYTHON" -m src.prepare --split official --image-size 40 80
    for seed in 0 1; do
        common=(--fold 0 --image-size 40 80 --seed "$seed")
        "$PYTHON" -m src.train "${common[@]}" --run-name drawn-s$seed --weights "${files[0]}" --epochs 2 \
            --synthetic 20000 --fonts "${files[1]}"
        "$PYTHON" -m src.train "${common[@]}" --run-name tuned-s$seed --start-from drawn-s$seed --epochs 12
        for epochs in 12 16 24; do
            "$PYTHON" -m src.train "${common[@]}" --run-name real$epochs-s$seed --weights "${files[0]}" --epochs $epochs
        done
    done
else
    "$PYTHON" -m src.prepare --split official --image-size 40 80
    sweep="-m src.sweep --one-at-a-time --fold 0 ${TASKS:+--tasks $TASKS}"
    same="augment.concat=0.4 mixup=0 label-smoothing=0.05 sam=0"
    "$PYTHON" $sweep --run-name one --seed 0 --set weights="${files[0]}" image-size="40 80" epochs=12 \
        augment.recombine=0,0.5 augment.concat=0.4,0 mixup=0,0.2 label-smoothing=0.05,0 layer-decay=default,0.75 sam=0,0.05
    # Its first run teaches; with the test images an epoch is a third longer, so 16 epochs without them are beside it.
    "$PYTHON" $sweep --run-name one --seed 0 1 2 --set weights="${files[0]}" image-size="40 80" epochs=12,16 \
        augment.recombine=0 pseudo-labels=default,one-base-s0 $same
    "$PYTHON" $sweep --run-name length --seed 0 1 2 --set weights="${files[0]}" image-size="40 80" epochs=12 \
        length-head=0.2
    "$PYTHON" $sweep --run-name long --seed 0 1 --set weights="${files[0]}" image-size="40 80" epochs=24 \
        augment.recombine=0,0.5
fi
