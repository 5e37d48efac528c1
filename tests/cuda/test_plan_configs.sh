#!/usr/bin/env bash
# test_plan_configs.sh VASILY DRIVER: every op of every shipped config, encoders and autoencoder inline, has a kernel and
# every cuDNN graph a plan, for each GPU of configs/machines/; kandinsky2.yaml at 256 and 512 pixels fits 80 GB with its 48
# pictures a GPU. DRIVER is the folder of the driver's stand-in. Takes minutes for each GPU: by default only a tiny network
# is planned, for one; VASILY_TEST_LONG=1 plans all.
set -euo pipefail
vasily=$(readlink -f "$1") driver=$2
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LD_LIBRARY_PATH=$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

fail() {
    echo "FAILED: $*" >&2
    tail -n 5 "$work/plan.log" >&2
    exit 1
}
figure() { # figure KEY: the last number under that key, which is the GPU's where both memories have it
    sed -n "s/.*\"$1\": *\([0-9.e+]*\).*/\1/p" "$work/plan.json"
}
plan() { # plan GPU CONFIG OVERRIDE...
    local gpu=$1 begun=$SECONDS
    "$vasily" plan "$2" --gpu "$gpu" --json device.cache="$work/cache" "${@:3}" >"$work/plan.json" 2>"$work/plan.log" ||
        fail "$gpu: $*"
    grep -q '"device": "cuda"' "$work/plan.json" || fail "$gpu: $*: planned for another device"
    echo "$gpu: ${*:2}: $(figure ops) ops, micro-batch $(figure micro_batch), workspace $(($(figure workspace) / 1000000)) MB, $((SECONDS - begun)) s"
}

if [ -z "${VASILY_TEST_LONG-}" ]; then
    plan h200 configs/demo.yaml train.global_batch=8 model.channels=32 'model.channel_mult=[1]' model.res_blocks=1 \
        'model.attention_levels=[1]' model.head_channels=32
    echo "SKIPPED plans of all configs: VASILY_TEST_LONG=1 makes them"
    exit 0
fi
for gpu in h200 h100 a100; do
    for config in configs/*.yaml; do
        [[ $config = configs/kandinsky2*.yaml ]] || plan "$gpu" "$config"
    done
    for resolution in 256 512; do
        plan "$gpu" configs/kandinsky2.yaml 'stages=[]' train.global_batch=48 train.resolution=$resolution
        total=$(sed -n 's/.*"device_bytes": {.*"total": *\([0-9]*\).*/\1/p' "$work/plan.json")
        echo "$gpu: kandinsky2 at $resolution pixels: $total bytes on the GPU"
        [ "$(figure micro_batch)" = 48 ] || fail "$gpu: at $resolution pixels only $(figure micro_batch) of 48 at once"
        [ "$total" -lt 80000000000 ] || fail "$gpu: $total bytes are more than 80 GB"
    done
done
