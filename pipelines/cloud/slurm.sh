#!/usr/bin/env bash
# A Slurm array: each task trains one fold of one seed. Preempted or out of time, a task saves its step and is queued
# again; there it resumes.
#
#   python -m src.prepare                                                    once, in the project's folder
#   sbatch --gpus=1 pipelines/cloud/slurm.sh --backbone resnet50             5 folds; flags go to src.train
#   RUN_NAME=big sbatch --array=0-14 --gpus=8 pipelines/cloud/slurm.sh       5 folds of seeds 0 to 2, 8 ranks each
#
# Task t trains fold t % FOLDS of seed t / FOLDS into runs/<competition>/$RUN_NAME-s<seed>. All nodes share this folder.
#SBATCH --job-name=podium
#SBATCH --array=0-4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=podium-%A_%a.log
set -euo pipefail

folds=${FOLDS:-5}
fold=$((SLURM_ARRAY_TASK_ID % folds))
seed=$((SLURM_ARRAY_TASK_ID / folds))
ranks=${SLURM_GPUS_ON_NODE:-1}
# shellcheck disable=SC1091
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then . .venv/bin/activate; fi

launch=(python)
if [ "$ranks" -gt 1 ]; then launch=(torchrun --standalone --nproc-per-node "$ranks"); fi
# USR1: the time is almost up. TERM: preempted, which Slurm itself queues again, or cancelled.
time_up=""
trap 'time_up=yes; kill -TERM "$training"' USR1
trap 'kill -TERM "$training"' TERM
"${launch[@]}" -m src.train --fold "$fold" --seed "$seed" --run-name "${RUN_NAME:-slurm}-s$seed" "$@" &
training=$!
while kill -0 "$training" 2> /dev/null; do wait "$training" || true; done # a signal ends a wait early
code=0
wait "$training" || code=$?
if [ "$code" -ne 0 ]; then echo "the training ended with exit code $code"; fi
if [ -n "$time_up" ] && [ "$code" -ne 0 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
