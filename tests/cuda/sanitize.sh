#!/bin/bash
# compute-sanitizer over every op and over some steps of training, replayed and kernel by kernel.
#
#   sanitize.sh VASILY MAKE_TEST_SHARDS TEST_OPS_BACKENDS [TOOL...]     (default: memcheck racecheck synccheck initcheck)
#
# Prints SKIPPED and ends with 77 where there is no compute-sanitizer (it comes with the CUDA toolkit).
for folder in /usr/local/cuda/bin /usr/local/cuda/compute-sanitizer; do PATH=$PATH:$folder; done
if ! command -v compute-sanitizer >/dev/null; then
    echo "SKIPPED: compute-sanitizer is not installed"
    exit 77
fi
ops=$(readlink -f "$3")
# shellcheck source=tests/cuda/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
tools=("${@:4}")
[ ${#tools[@]} -gt 0 ] || tools=(memcheck racecheck synccheck initcheck)

# sanitized TOOL LOG PROGRAM ARGUMENT...: a packed program is started without its script, in the same environment.
sanitized() {
    local tool=$1 log=$2 program=$3 code=0 launch=()
    shift 3
    if [ -x "$(dirname "$program")/with-libraries" ]; then
        launch=("$(dirname "$program")/with-libraries")
        program=$(dirname "$program")/../libexec/$(basename "$program")
    fi
    "${launch[@]}" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 "$program" "$@" >"$log" 2>&1 ||
        code=$?
    if [ $code != 0 ]; then
        grep -m 40 -E '^=========' "$log" || true
        fail "$tool: $(basename "$program") $*: exit code $code"
    fi
    grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | sed "s|^=*|$tool, $(basename "$log" .log):|"
}

for tool in "${tools[@]}"; do
    sanitized "$tool" "ops-$tool.log" "$ops" "$device" 1
    for graphs in true false; do
        sanitized "$tool" "train-$tool-$graphs.log" "$vasily" train tiny.yaml run.dir="run-$tool-$graphs" "${exact[@]}" \
            device.graphs=$graphs train.steps="${VASILY_TEST_STEPS:-3}"
    done
done
