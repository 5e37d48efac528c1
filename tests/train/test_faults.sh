#!/bin/bash
# Faults of a running job that other tests do not make (docs/reliability.md lists all): a segmentation fault alone and of
# one of two ranks, TERM, and a batch with values that are no numbers. Each with its exit code and message, and what goes
# on has the bits of a run without the fault.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
export OMP_WAIT_POLICY=passive
sed -i 's/every: 10/every: 3/' tiny.yaml

# begin RUN RANKS SIGNAL RANK: trains until step 8 or later, and sends the signal to that rank; the exit code in $code.
begin() {
    local run=$1 ranks=$2 signal=$3 rank=$4
    # shellcheck disable=SC2016
    mpirun -n "$ranks" sh -c 'echo $$ > "$0.$OMPI_COMM_WORLD_RANK.pid"; exec "$@"' "$run" "$vasily" train tiny.yaml \
        run.dir="$run" train.steps=100000 > "$run.log" 2>&1 &
    local job=$!
    until [ -f "$run/metrics.jsonl" ] && [ "$(wc -l < "$run/metrics.jsonl")" -ge 8 ]; do
        kill -0 $job 2> kill0 || fail "$run ended before the fault"
        sleep 0.05
    done
    kill -"$signal" "$(cat "$run.$rank.pid")"
    code=0
    wait $job || code=$?
}

# goes_on RUN RANKS: to five steps after its newest checkpoint, with the bits of a run without a fault.
goes_on() {
    local run=$1 ranks=$2 steps
    steps=$(find "$run/checkpoints" -name 'step-*[0-9]' | sed 's/.*step-0*//' | sort -n | tail -1)
    [ -n "$steps" ] || fail "$run has no checkpoint"
    steps=$((steps + 5))
    expect 0 "$run-again.log" mpirun -n "$ranks" "$vasily" train tiny.yaml run.dir="$run" --resume auto --stop-after $steps \
        train.steps=100000
    expect 0 "$run-whole.log" mpirun -n "$ranks" "$vasily" train tiny.yaml run.dir="whole-$run" --stop-after $steps \
        train.steps=100000 checkpoint.every=0
    [ "$(hashes "$run/checkpoints/latest")" = "$(hashes "whole-$run/checkpoints/latest")" ] ||
        fail "$run goes on with other bits"
    cmp <(metric "$run" step) <(seq $steps) || fail "$run: steps are missing or doubled"
}

begin crash1 1 SEGV 0
[ $code = 139 ] || fail "a segmentation fault ends with $code"
goes_on crash1 1

begin crash2 2 SEGV 1
[ $code = 139 ] || [ $code = 76 ] || fail "a segmentation fault of rank 1 ends with $code"
grep -F "error [0]" crash2.log | grep -qF "has died" || fail "rank 0 does not say that rank 1 has died"
goes_on crash2 2

begin term 2 TERM 1
[ $code = 75 ] || fail "TERM to rank 1 ends with $code, not 75"
contains term.log "stopped by a signal; go on with --resume auto"
goes_on term 2

# A picture's latents that are no numbers: the steps that meet it are left out on all ranks alike, and counted.
expect 0 precompute.log "$vasily" precompute tiny.yaml
cp -a shards good
file=$(ls shards/000001.latents-*.h5)
middle=$(($(stat -c %s "$file") / 8 * 4))
for i in $(seq 0 15); do printf '\xff\xff\xff\xff' | dd of="$file" bs=1 seek=$((middle + 4 * i)) conv=notrunc status=none; done
for ranks in 1 2; do
    expect 0 nan$ranks.log mpirun -n $ranks "$vasily" train tiny.yaml run.dir=nan$ranks frozen.latents=precomputed --stop-after 24
    contains nan$ranks.log "gradients are not finite"
    skipped=$(metric nan$ranks skipped_steps | tail -1)
    [ "$skipped" -ge 1 ] && [ "$skipped" -le 4 ] || fail "$ranks ranks: $skipped steps of 24 are left out"
    expect 0 verify$ranks.log "$vasily" checkpoint verify nan$ranks
done
[ "$(metric nan1 skipped_steps)" = "$(metric nan2 skipped_steps)" ] || fail "other steps are left out on two ranks"
