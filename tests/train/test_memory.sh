#!/bin/bash
# Memory: the plan of configs/kandinsky2.yaml, plans against measured peaks, packed weights kept or in scratch, and the
# refusal of what does not fit. VASILY_TEST_LONG=1 also runs a real step of the whole network.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
config=$here/../../configs/kandinsky2.yaml

figure() { # figure FILE KEY: the first number under that key
    sed -n "s/.*\"$2\": *\([0-9.e+]*\).*/\1/p" "$1" | head -1
}

# within PERCENT A B
within() {
    awk -v p="$1" -v a="$2" -v b="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a > 0 && d <= p / 100 * b) }'
}

# ---- the plan of the full network, which allocates nothing ----
for ranks in 1 8 196; do
    "$vasily" plan "$config" "stages=[]" --ranks "$ranks" --json > plan.json 2> plan.log || fail "plan for $ranks ranks"
    [ "$(figure plan.json parameters)" = 1223352584 ] || fail "parameters: $(figure plan.json parameters)"
    [ "$(figure plan.json global_batch)" = 9408 ] || fail "global batch: $(figure plan.json global_batch)"
    [ $(($(figure plan.json micro_batch) * $(figure plan.json micro_batches) * ranks)) = 9408 ] ||
        fail "$ranks ranks: micro-batches do not make up the batch"
done
rows=0
for key in weights gradients optimizer activations workspace packed_weights frozen_weights frozen_mapped \
    prefetched_batches communication_buffers previews checkpoint checkpoint_copy process; do
    rows=$((rows + $(figure plan.json "$key")))
done
[ "$rows" = "$(figure plan.json total)" ] || fail "the total is not the sum of its rows"
"$vasily" plan "$config" "stages=[]" > plan.txt 2> plan.log || fail "plan"
contains plan.txt "frozen, mapped files"

# One micro-batch on one machine, the frozen networks precomputed.
one=('stages=[]' train.global_batch=1 train.micro_batch=1 data.lanes=1 optim.ema_decay=0 preview.every=0 checkpoint.async=false
    frozen.latents=precomputed frozen.text=precomputed)
"$vasily" plan "$config" "${one[@]}" device.packed_weights=scratch --json > plan.json 2> plan.log || fail "plan of one"
[ "$(figure plan.json total)" -lt 22000000000 ] || fail "one micro-batch takes $(figure plan.json total) bytes"
[ "$(figure plan.json frozen_weights)" = 0 ] || fail "precomputed inputs, but frozen weights are planned"

# ---- plan and measurement, and the same steps with packed weights kept and in scratch ----
# A step of a few hundred megabytes: what is not planned must be small beside it.
large=(model.channels=224 model.res_blocks=1 train.micro_batch=4)
for pack in keep scratch; do
    OMP_NUM_THREADS=1 "$vasily" bench step tiny.yaml "${large[@]}" device.packed_weights=$pack --steps 1 --warmup 1 --json \
        > "bench-$pack.json" 2> bench.log || fail "bench step, $pack"
    planned=$(figure "bench-$pack.json" planned_bytes) peak=$(figure "bench-$pack.json" peak_bytes)
    echo "$pack: planned $planned bytes, peak $peak"
    # Sanitizers take memory of their own.
    if ! grep -q __asan_init "$vasily"; then
        within 3 "$peak" "$planned" || fail "$pack: planned $planned bytes, peak $peak"
    fi
    contains "bench-$pack.json" "\"packed_weights\": \"$pack\""
done
[ "$(figure bench-scratch.json planned_bytes)" -lt "$(figure bench-keep.json planned_bytes)" ] ||
    fail "scratch takes no less memory"

for pack in keep scratch; do
    expect 0 "$pack.log" "$vasily" train tiny.yaml run.dir="run-$pack" device.packed_weights=$pack train.steps=6 \
        model.precision=bf16
    contains "$pack.log" "at its peak"
    [ -n "$(metric "run-$pack" peak_bytes | tail -1)" ] || fail "no peak in the metrics"
done
[ -n "$(hashes run-keep/checkpoints/step-0000006)" ] &&
    [ "$(hashes run-keep/checkpoints/step-0000006)" = "$(hashes run-scratch/checkpoints/step-0000006)" ] ||
    fail "packed weights in scratch change the results"

# ---- auto, and too little memory ----
large+=(checkpoint.async=false)
"$vasily" plan tiny.yaml "${large[@]}" device.packed_weights=keep --json > keep.json 2> plan.log || fail "plan"
"$vasily" plan tiny.yaml "${large[@]}" device.packed_weights=scratch --json > scratch.json 2> plan.log || fail "plan"
kept=$(figure keep.json total) scratch=$(figure scratch.json total)
[ "$(figure scratch.json packed_weights)" = 0 ] || fail "scratch keeps packed weights"
VASILY_MEMORY_BYTES=$((kept * 2)) "$vasily" plan tiny.yaml "${large[@]}" --json > auto.json 2> plan.log || fail "plan"
[ "$(figure auto.json packed_weights)" = "$(figure keep.json packed_weights)" ] || fail "auto: not kept, though they fit"
VASILY_MEMORY_BYTES=$((scratch + 1000000)) "$vasily" plan tiny.yaml "${large[@]}" --json > auto.json 2> plan.log ||
    fail "plan"
[ "$(figure auto.json packed_weights)" = 0 ] || fail "auto: kept, though they do not fit"

# The copy that checkpoints are written from takes what is left, or is done without.
auto=("${large[@]}" checkpoint.async=auto)
"$vasily" plan tiny.yaml "${auto[@]}" --json > auto.json 2> plan.log || fail "plan"
copy=$(figure auto.json checkpoint_copy)
[ "$copy" -ge $((16 * $(figure auto.json parameters))) ] || fail "no copy is planned, or a small one: $copy"
within 5 $(($(figure auto.json total) - kept)) "$copy" || fail "the copy is not all that is more"
VASILY_MEMORY_BYTES=$((kept + copy / 2)) "$vasily" plan tiny.yaml "${auto[@]}" --json > auto.json 2> plan.log || fail "plan"
[ "$(figure auto.json checkpoint_copy)" = 0 ] || fail "a copy is planned that does not fit"
expect 0 waits.log env VASILY_MEMORY_BYTES=$((kept + copy / 2)) "$vasily" train tiny.yaml "${auto[@]}" run.dir=run-waits \
    train.steps=2
contains waits.log "checkpoints are written while training waits"

code=0
VASILY_MEMORY_BYTES=$((scratch / 2)) "$vasily" train tiny.yaml "${large[@]}" run.dir=run-none > none.log 2>&1 || code=$?
[ "$code" != 0 ] || fail "a run was begun that cannot fit"
for words in "are free" "train.recompute: true" "train.micro_batch" "optim.ema_decay: 0" "vasily plan"; do
    contains none.log "$words"
done
[ ! -e run-none/metrics.jsonl ] || fail "steps were made before memory was looked at"

# ---- a real step of the whole network ----
[ "${VASILY_TEST_LONG:-0}" = 1 ] || exit 0
available=$(awk '/^MemAvailable:/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)
planned=$(figure plan.json total)
if [ "$available" -lt $((planned + 500000000)) ]; then
    echo "SKIPPED the whole network's step: it takes $planned bytes, $available are available"
    exit 0
fi
"$vasily" bench step "$config" "${one[@]}" device.packed_weights=scratch model.precision=bf16 --steps 1 --warmup 1 \
    --json > full.json 2> bench.log || fail "the whole network's step"
planned=$(figure full.json planned_bytes) peak=$(figure full.json peak_bytes)
echo "the whole network: $(figure full.json step_seconds) s a step, planned $planned bytes, peak $peak"
[ "$peak" -le 22000000000 ] || fail "the whole network's peak is $peak bytes"
within 3 "$peak" "$planned" || fail "the whole network: planned $planned bytes, peak $peak"
