#!/usr/bin/env bash
# Run slurm.sh under a Slurm of one node on this machine: preempted, out of time, cancelled.
#
#   apt-get install slurm-wlm && bash pipelines/cloud/try_slurm.sh      as root; about 5 minutes on 2 cores
#
# Trains string_cnn on the demo's images in a temporary folder. Prints a line per check; the first that is not met ends it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. pipelines/setup.sh
slurm_sh=$PWD/pipelines/cloud/slurm.sh
work=$(mktemp -d)
node=$(hostname -s)
export SLURM_CONF=$work/slurm.conf PYTHONPATH=$PWD OMP_NUM_THREADS=1 FOLDS=2
export VIRTUAL_ENV=${VIRTUAL_ENV:-$PWD/.venv} PATH=${PYTHON%/*}:$PATH
cd "$work"

# A node of two cores; the partition high preempts low. A requeued task may begin again after 5 s, not 2 minutes.
cat > "$SLURM_CONF" << EOF
ClusterName=trial
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=20
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
NodeName=$node NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes=$node Default=YES PriorityTier=1
PartitionName=high Nodes=$node PriorityTier=2 PreemptMode=OFF
EOF

stop_slurm() {
    scancel --user="$USER" || true
    sleep 1
    kill "$(cat slurmd.pid)" "$(cat slurmctld.pid)" || true
    cd /
    rm -rf "$work"
}
met() { # met NAME SECONDS COMMAND...: wait until the command succeeds
    local name=$1 left=$2
    shift 2
    until "$@" > /dev/null 2>&1; do
        if ((left-- <= 0)); then
            echo "not met: $name" >&2
            tail -n 20 ./*.log >&2
            exit 1
        fi
        sleep 1
    done
    echo "met: $name"
}
submit() { # submit RUN EPOCHS SBATCH_FLAGS...: print the array's number
    local run=$1 epochs=$2
    shift 2
    RUN_NAME=$run sbatch --parsable --array=0-1 --cpus-per-task=1 "$@" "$slurm_sh" --competition demo \
        --backbone string_cnn --no-pretrained --image-size 32 48 --epochs "$epochs"
}
log_of() { cat "podium-$1_0.log" "podium-$1_1.log"; }
says() { [ "$(log_of "$1" | grep -c "$2")" -ge "${3:-2}" ]; }
ended() { [ -z "$(squeue --noheader --jobs="$1" 2> /dev/null)" ]; }
weights() { log_of "$1" | grep -o "SHA-256 of the weights.*"; }

export USER=${USER:-$(id -un)}
mkdir state spool
"$PYTHON" -m src.make_demo > make_demo.log
"$PYTHON" -m src.prepare --competition demo --num-folds 2 > prepare.log
slurmctld
slurmd
trap stop_slurm EXIT
met "sbatch --test-only takes the script" 30 sbatch --test-only --cpus-per-task=1 "$slurm_sh"
sbatch --version

straight=$(submit straight 8)
met "an array of two folds is trained" 150 says "$straight" "SHA-256 of the weights"
preempted=$(submit preempted 8)
met "two tasks have trained an epoch" 90 says "$preempted" "epoch 1/8"
sbatch --partition=high --cpus-per-task=2 --output=high.log --wrap "sleep 2" > sbatch.log
met "a job that preempts both: both save their step" 120 says "$preempted" "ended with exit code 143"
met "both are queued again and resume" 150 says "$preempted" "resumes after epoch"
log_of "$preempted" | grep "resumes after epoch"
met "both end" 150 says "$preempted" "SHA-256 of the weights"
[ "$(weights "$straight")" = "$(weights "$preempted")" ]
echo "met: with the weights of the array that was not preempted"

timed=$(submit timed 24 --time=1 --signal=B:USR1@15)
met "the time is up: both save their step" 150 says "$timed" "ended with exit code 143"
met "both are queued again and resume" 150 says "$timed" "resumes after epoch"
log_of "$timed" | grep "resumes after epoch"
scancel "$timed"
met "cancelled, both save their step" 60 says "$timed" "ended with exit code 143" 4
met "and are not queued again" 60 ended "$timed"
sleep 10
ended "$timed"
