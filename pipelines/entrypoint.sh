#!/bin/sh
# The image's entrypoint: `podium train --fold 0` is `python -m src.train --fold 0`; other words are run as they stand.
set -eu
case "${1:-help}" in
    prepare | train | evaluate | predict | blend | make_demo)
        command=$1
        shift
        exec python -m "src.$command" "$@"
        ;;
    demo)
        exec bash /app/pipelines/demo.sh
        ;;
    help | --help | -h)
        echo "usage: prepare | train | evaluate | predict | blend | make_demo [flags], demo, or any other command"
        echo "  mount input/, runs/ and submissions/ at /app/input, /app/runs and /app/submissions"
        echo "  flags of a command: train --help"
        ;;
    *)
        exec "$@"
        ;;
esac
