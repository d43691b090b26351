#!/usr/bin/env bash
# What boxes are good for, on the demo: a run on whole images, one with recombined characters, one that reads crops,
# and one with both. About 25 minutes of one core. Needs input/demo (python -m src.make_demo).
#
#   bash benchmarks/strings.sh
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${PYTHON:-}" ] || . pipelines/setup.sh
export OMP_NUM_THREADS=1
runs=(--runs-dir "${RUNS:-runs/strings}" --submissions-dir "${RUNS:-runs/strings}/submissions")
network=(--backbone string_cnn --no-pretrained --batch-size 32 --lr 3e-3 --dropout 0)
reader=("${network[@]}" --epochs 28 --augment.rotate 5 --augment.shift 0.03 --augment.concat 0)

boxes=(--competition demo:boxes "${runs[@]}")
"$PYTHON" -m src.prepare "${boxes[@]}" --num-folds 2
"$PYTHON" -m src.train "${boxes[@]}" "${network[@]}" --epochs 16
"$PYTHON" -m src.evaluate "${boxes[@]}"
"$PYTHON" -m src.predict "${boxes[@]}"
"$PYTHON" -m src.crops "${boxes[@]}"

demo=(--competition demo "${runs[@]}")
"$PYTHON" -m src.prepare "${demo[@]}" --num-folds 2
"$PYTHON" -m src.train "${demo[@]}" "${reader[@]}" --run-name whole
"$PYTHON" -m src.train "${demo[@]}" "${reader[@]}" --run-name recombined --augment.recombine 0.5
"$PYTHON" -m src.prepare "${demo[@]}" --num-folds 2 --crops "${RUNS:-runs/strings}/demo_boxes/baseline/crops.csv"
"$PYTHON" -m src.train "${demo[@]}" "${reader[@]}" --run-name cropped
"$PYTHON" -m src.train "${demo[@]}" "${reader[@]}" --run-name both --augment.recombine 0.5
for run in whole recombined cropped both; do
    "$PYTHON" -m src.evaluate "${demo[@]}" --run-name $run
    "$PYTHON" -m src.predict "${demo[@]}" --run-name $run
done
