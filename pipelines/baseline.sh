# shellcheck shell=bash
# Sourced by svhn.sh and food11.sh: the four commands for the run called baseline.

baseline() { # baseline COMPETITION "PREPARE FLAGS" TRAIN FLAGS...
    local competition=$1 prepare flag
    read -ra prepare <<< "$2"
    shift 2
    for flag in "$@"; do
        case $flag in --run-name* | --competition* | --input-dir* | --runs-dir* | --submissions-dir*)
            echo "error: $flag: only the run baseline is scored and answered here; give the four commands yourself" >&2
            return 2
            ;;
        esac
    done
    . pipelines/setup.sh
    "$PYTHON" -m src.prepare --competition "$competition" "${prepare[@]}"
    "$PYTHON" -m src.train --competition "$competition" --fold all "$@"
    "$PYTHON" -m src.evaluate --competition "$competition"
    "$PYTHON" -m src.predict --competition "$competition"
}
