#!/usr/bin/env bash
# Run the two containers of compose.yaml as two machines without Docker: a network namespace and a host name each.
#
#   apt-get install iproute2 && bash pipelines/cloud/try_nodes.sh      as root; 2 minutes on 2 cores
#
# The commands are those of compose.yaml, with string_cnn and the demo's images in place of its flags. Prints a line per
# check; the first that is not met ends it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. pipelines/setup.sh
compose=$PWD/pipelines/cloud/compose.yaml
work=$(mktemp -d)
export PYTHONPATH=$PWD OMP_NUM_THREADS=1 PATH=${PYTHON%/*}:$PATH
cd "$work"
trap 'for i in 0 1; do ip netns delete "node$i" || true; rm -rf "/etc/netns/node$i"; done; cd /; rm -rf "$work"' EXIT

"$PYTHON" -m src.make_demo > make_demo.log
"$PYTHON" -m src.prepare --competition demo --num-folds 2 > prepare.log

# Two network stacks joined by a cable, each with its own /etc/hosts.
ip netns add node0
ip netns add node1
ip link add eth0 netns node0 type veth peer name eth0 netns node1
for i in 0 1; do
    ip -n "node$i" address add "10.9.0.1$i/24" dev eth0
    ip -n "node$i" link set lo up
    ip -n "node$i" link set eth0 up
    mkdir -p "/etc/netns/node$i"
    printf '127.0.0.1 localhost\n10.9.0.10 node0\n10.9.0.11 node1\n' > "/etc/netns/node$i/hosts"
done

command_of() { # command_of NODE RUN EPOCHS: print the service's command with the trial's flags
    "$PYTHON" - "$compose" "$@" << 'EOF'
import sys, yaml
path, node, run, epochs = sys.argv[1:]
words = yaml.safe_load(open(path))["services"][node]["command"].split()
flags = f"--fold 0 --competition demo --backbone string_cnn --no-pretrained --image-size 32 48 --epochs {epochs}"
print(*words[: words.index("src.train") + 1], flags, "--run-name", run)
EOF
}
start() { # start RUN EPOCHS: two torchruns, their process ids in `pids`
    pids=()
    for i in 0 1; do
        ip netns exec "node$i" unshare --uts sh -c "hostname node$i && exec $(command_of "node$i" "$1" "$2")" \
            >> "$1-$i.log" 2>&1 &
        pids+=($!)
    done
}
finish() { wait "${pids[0]}" && wait "${pids[1]}"; }
weights() { grep -o "SHA-256 of the weights.*" "$1-0.log"; }

start straight 4
finish
weights straight
echo "met: two nodes train one network"

start stopped 4
until grep -q "epoch 1/4" stopped-0.log; do sleep 0.2; done
kill -INT "${pids[@]}" # what `docker compose stop` sends, by the image's STOPSIGNAL
finish && exit 1
start stopped 4
finish
grep "resumes after epoch" stopped-0.log
[ "$(weights straight)" = "$(weights stopped)" ]
echo "met: stopped and started again, with the same weights"

start lost 4
until grep -q "epoch 1/4" lost-0.log; do sleep 0.2; done
pkill -KILL -P "${pids[1]}" -f src.train || kill -KILL "${pids[1]}"
started=$SECONDS
wait "${pids[0]}" && exit 1
echo "met: a rank of node1 killed, node0 ended after $((SECONDS - started)) s"
wait "${pids[1]}" || true
start lost 4
finish
[ "$(weights straight)" = "$(weights lost)" ]
echo "met: started again, with the same weights"
