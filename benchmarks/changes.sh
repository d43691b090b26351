#!/usr/bin/env bash
# shellcheck disable=SC2086 # lists of flags are split on purpose
# What one change of a training gains, on two cores: about five minutes a training and core.
#
#   bash benchmarks/changes.sh recipe LITE0.safetensors      street-view: each switch of the recipe alone, three seeds
#   bash benchmarks/changes.sh weights                       street-view: views, means and soups of recipe's unchanged runs
#   bash benchmarks/changes.sh students LITE0.safetensors    street-view: three networks teach one (after recipe)
#   bash benchmarks/changes.sh look LITE0.safetensors        street-view: a second look at the digits' box, two seeds
#   bash benchmarks/changes.sh sizes RECOGNISER.onnx         street-view: a text recogniser at three sizes, 4 epochs, two seeds
#   bash benchmarks/changes.sh suspects LITE0.safetensors    food-11 at 32x32: without labels that a probe suspects
#   bash benchmarks/changes.sh unlabelled                    food-11 at 32x32: pretraining without labels, five hours
#   bash benchmarks/changes.sh nets                          food-11 at 32x32: other networks from scratch, in equal time
#
# Held out are the organiser's validation images, for `look` the first of four folds. food-11 runs in bf16, which wants a
# processor with AMX. Results: runs/changes/<competition>/<sweep>.csv, and evaluate's reports.
set -euo pipefail
part=$1
shift
files=()
for file in "$@"; do files+=("$(realpath "$file")"); done
cd "$(dirname "$0")/.."
[ -n "${PYTHON:-}" ] || . pipelines/setup.sh
export OMP_NUM_THREADS=1
runs="--runs-dir ${RUNS:-runs/changes}"
sweep="-m src.sweep $runs --fold 0 --seed 0 1 2 --tasks ${TASKS:-2}"
small=(weights="${files[0]:-}" image-size="40 80")
food="--competition food11"
scratch=(pretrained=False image-size="32 32" precision=bf16)
tiny=("${scratch[@]}" backbone=resnet_cifar epochs=20 dropout=0)

if [ "$part" = recipe ]; then
    "$PYTHON" -m src.prepare $runs --split official --image-size 40 80
    "$PYTHON" $sweep --one-at-a-time --run-name one --set "${small[@]}" epochs=12 dropout=0.2,0 drop-path=default,0.1 ema=0.998,0 \
        augment.erase=0,0.2 augment.invert=0,0.3 head-weights=default,"1 1 1 2 4 4" optimizer=adamw,nadamw \
        progressive-resize=1,0.5 label-smoothing=0.05,0 mixup=0,0.2 sam=0,0.05 box-head=0,0.2 augment.text-crop=0,0.5
elif [ "$part" = weights ]; then
    "$PYTHON" -m benchmarks.from_weights $runs --run-name one-base-s0 one-base-s1 one-base-s2
elif [ "$part" = students ]; then
    "$PYTHON" $sweep --run-name students --set "${small[@]}" epochs=12 pseudo-labels="one-base-s0 one-base-s1 one-base-s2"
elif [ "$part" = look ]; then
    boxes="--competition svhn:boxes $runs"
    "$PYTHON" -m src.prepare $boxes --num-folds 4 --image-size 40 80
    for fold in 0 1 2 3; do
        "$PYTHON" -m src.train $boxes --fold $fold --image-size 40 80 --weights "${files[0]}" --epochs 3
    done
    for command in evaluate predict crops; do "$PYTHON" -m src.$command $boxes; done
    for look in whole cropped; do
        crops=""
        [ $look = whole ] || crops="--crops ${RUNS:-runs/changes}/svhn_boxes/baseline/crops.csv"
        "$PYTHON" -m src.prepare $runs --num-folds 4 --image-size 40 80 $crops
        "$PYTHON" $sweep --seed 0 1 --run-name $look --set "${small[@]}" epochs=12
    done
elif [ "$part" = sizes ]; then
    for size in "48 64" "48 96" "64 96"; do "$PYTHON" -m src.prepare $runs --split official --image-size $size; done
    "$PYTHON" $sweep --seed 0 1 --one-at-a-time --run-name size --set backbone=text_recognition weights="${files[0]}" lr=5e-4 \
        epochs=4 augment.concat=0.1 augment.invert=0.3 augment.shear=8 augment.stretch=0.15 image-size="48 64,48 96,64 96"
elif [ "$part" = unlabelled ]; then
    alone="--competition food11:instances $runs --backbone resnet_cifar --no-pretrained --image-size 32 32 --epochs 60"
    colours="--augment.saturation 0.5 --augment.contrast 0.5 --augment.tint 0.1"
    "$PYTHON" -m src.prepare --competition food11:instances $runs --image-size 32 32
    weights=default
    for loss in contrastive simsiam byol rotation masked; do
        views=""
        [[ $loss = rotation || $loss = masked ]] || views="--aug-repeats 2 $colours"
        "$PYTHON" -m src.train $alone --loss $loss --run-name $loss $views --batch-size 256 --lr 0.002 --dropout 0 \
            --precision bf16 --augment.crop 0.3
        weights="$weights,${RUNS:-runs/changes}/food11_instances/$loss/fold0/last.safetensors"
    done
    "$PYTHON" -m src.prepare $food $runs --split official --image-size 32 32
    "$PYTHON" $sweep $food --one-at-a-time --run-name unlabelled --set "${tiny[@]}" "weights=$weights"
    "$PYTHON" $sweep $food --run-name longer --set "${tiny[@]/epochs=20/epochs=60}"
elif [ "$part" = nets ]; then
    "$PYTHON" -m src.prepare $food $runs --split official --image-size 32 32
    "$PYTHON" $sweep $food --run-name cifar --set "${tiny[@]}"
    "$PYTHON" $sweep $food --run-name convnext --set "${scratch[@]}" backbone=convnext_atto backbone-options=patch_size=2 \
        epochs=10 drop-path=0.1 precision=fp32
    "$PYTHON" $sweep $food --run-name nfregnet --set "${scratch[@]}" backbone=nf_regnet_b0 epochs=8
else
    "$PYTHON" -m src.prepare $food $runs --num-folds 3 --image-size 128 128
    "$PYTHON" -m src.train $food $runs --run-name probe --freeze-backbone --weights "${files[0]}" --views original
    "$PYTHON" -m src.evaluate $food $runs --run-name probe
    found="${RUNS:-runs/changes}/food11/probe/evaluation"
    head -666 "$found/suspects.csv" >"$found/first.csv" # one image in twenty, the least probable labels
    "$PYTHON" -m src.prepare $food $runs --split official --image-size 32 32
    "$PYTHON" $sweep $food --one-at-a-time --run-name suspects --set "${tiny[@]}" \
        "suspects=default,$found/suspects.csv,$found/first.csv"
fi
