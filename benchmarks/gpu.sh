#!/usr/bin/env bash
# shellcheck disable=SC2086 # lists of flags are split on purpose
# All GPU benchmarks in one go: throughput of loader, step and both; a five-fold street-view training at full scale;
# CIFAR-10 to 94%; on several GPUs what torchrun gives; the tests marked gpu. Prints everything; runs are saved to $RUNS.
#
#   bash benchmarks/gpu.sh WEIGHTS.safetensors            needs input/svhn and input/cifar10
#   TRIAL=1 bash benchmarks/gpu.sh WEIGHTS.safetensors    a trial on a CPU in five minutes (needs input/mnist too)
#
# Each part has a time limit, 29 minutes in total; expect about ten. PARTS="bench street cifar ranks tests" selects parts, for a
# machine that is available for less.
set -uo pipefail
weights=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 2
[ -n "${PYTHON:-}" ] || . pipelines/setup.sh dev || exit 2 # PYTHON: an interpreter with the requirements installed
export NO_ALBUMENTATIONS_UPDATE=1
runs=${RUNS:-runs/gpu}
trial=${TRIAL:-}

say() { printf '\n== %s (%s s since the start)\n' "$*" "$SECONDS"; }
wanted() { [[ " ${PARTS:-bench street cifar ranks tests} " == *" $1 "* ]]; }
timed() { # timed SECONDS COMMAND: a failure or timeout does not stop the other parts
    local limit=$1
    shift
    say "$*"
    timeout "$limit" "$@" || { echo "exit code $?"; failed=1; }
}

"$PYTHON" -c 'import torch, timm; print("torch", torch.__version__, "timm", timm.__version__,
    torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")'
bench="--batch-size 256 ${trial:+--batch-size 8 --steps 3}"
if wanted bench; then
    for backbone in resnet18 efficientnet_b0; do
        for size in "64 128" "128 128"; do
            timed 60 "$PYTHON" -m src.bench --backbone $backbone --image-size $size $bench
            [ -n "$trial" ] && break
            timed 60 "$PYTHON" -m src.bench --backbone $backbone --image-size $size $bench --cache-on-device off
            timed 90 "$PYTHON" -m src.bench --backbone $backbone --image-size $size $bench --compile
        done
    done
fi

if wanted street; then
    street="--competition benchmarks/street_view_30k.py --runs-dir $runs"
    timed 120 "$PYTHON" -m src.prepare $street
    timed 300 "$PYTHON" -m src.train $street --fold all --epochs 24 --batch-size 256 --lr 4e-3 --weights "$weights" \
        ${trial:+--fold 0 --epochs 1 --backbone svhn_cnn --no-pretrained --weights None}
fi

if wanted cifar; then
    for seed in 0 1 2; do
        timed 120 "$PYTHON" -m benchmarks.reference --row resnet9 --way ours --seed $seed --runs-dir "$runs" \
            ${trial:+--epochs 1 --row resnet_mnist}
        [ -n "$trial" ] && break
    done
fi

gpus=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
if wanted ranks && { [ "$gpus" -gt 1 ] || [ -n "$trial" ]; }; then
    ranks=$((gpus > 1 ? gpus : 2))
    timed 300 "$PYTHON" -m benchmarks.ranks --ranks $ranks --rounds 2 ${trial:+--rounds 1 --steps 3 --batch-size 8}
    shards="--backbone resnet18 --image-size 64 128 --cache-on-device on $bench"
    timed 60 "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node $ranks -m src.bench $shards
fi

if wanted tests; then
    timed 120 "$PYTHON" -m pytest -q -m gpu tests
fi
say "done"
exit "${failed:-0}"
