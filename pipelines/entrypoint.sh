#!/bin/sh
# The Docker image's entrypoint: `podium train --fold 0` runs `python -m src.train --fold 0`, `podium demo` runs
# pipelines/demo.sh; anything else runs as a command.
set -eu

# Without a few kB of shared memory prepare cannot start processes and decodes in one; training does not use it.
free=$(df -Pk /dev/shm 2> /dev/null | awk 'NR == 2 { print $4 }')
if [ ! -w /dev/shm ] || [ "${free:-0}" -lt 1024 ]; then
    echo "warning: /dev/shm is missing, read-only or too small (${free:-0} kB free): prepare decodes in one" \
        "process; start the container with --shm-size=1g for more" >&2
fi

case "${1:-help}" in
    auto | bench | blend | compare | crops | doctor | download | evaluate | export | make_demo | predict | prepare | search | \
        serve | submit | summary | sweep | train | watch)
        command=$1
        shift
        exec python -m "src.$command" "$@"
        ;;
    demo | svhn | food11 | reference)
        script=$1
        shift
        # A waiting shell does not forward signals: run the pipeline in its own process group and signal the whole group.
        setsid bash "/app/pipelines/$script.sh" "$@" &
        pipeline=$!
        trap 'kill -TERM "-$pipeline" 2> /dev/null || true' INT TERM HUP
        code=0
        wait "$pipeline" || code=$?
        while kill -0 "-$pipeline" 2> /dev/null; do sleep 0.2; done # its commands are saving
        exit "$code"
        ;;
    help | --help | -h)
        echo "usage: auto | bench | blend | compare | crops | doctor | download | evaluate | export | make_demo | predict |"
        echo "  prepare | search | serve | submit | summary | sweep | train | watch [flags], or a pipeline:"
        echo "  demo, svhn [flags of train], food11 [flags of train], reference ROW published|ours, or any other command"
        echo "  mount input/, runs/ and submissions/ at /app/input, /app/runs and /app/submissions"
        echo "  for the flags of a command: train --help"
        ;;
    *)
        command -v "$1" > /dev/null 2>&1 || {
            echo "error: $1: no such command; see: help" >&2
            exit 2
        }
        exec "$@"
        ;;
esac
