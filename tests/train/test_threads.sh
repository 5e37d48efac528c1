#!/bin/bash
# The threads of a run of one process beside the one that trains: those that read and decode, and the one that writes
# checkpoints. Under ThreadSanitizer (launch/test) they must not race; in every build what they write while training
# goes on is what a run writes that waits for it.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

run() { # run FOLDER SETTING...: 12 steps, a checkpoint of every second, all kept
    expect 0 "$1.log" "$vasily" train tiny.yaml run.dir="$1" train.steps=12 checkpoint.every=2 checkpoint.keep=10 \
        data.decode_threads=2 "${@:2}"
}
run beside checkpoint.async=true
run waits checkpoint.async=false
contains beside.log "6 checkpoints"
for step in 02 04 06 08 10 12; do
    a=$(hashes beside/checkpoints/step-00000$step) b=$(hashes waits/checkpoints/step-00000$step)
    [ -n "$a" ] && [ "$a" = "$b" ] || fail "the checkpoint of step $step, written beside training, has other bits"
done
