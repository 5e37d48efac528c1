#!/bin/bash
# On a device too, with device.deterministic: 30 steps, a new process, 30 more are 60 steps to the bit, in every file of
# the checkpoint. resume_exact.sh VASILY MAKE_TEST_SHARDS
# shellcheck source=tests/cuda/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
steps=${VASILY_TEST_STEPS:-60}
half=$((steps / 2))

for precision in f32 bf16; do
    common=(train.steps="$steps" model.precision="$precision" train.micro_batch=4)
    train whole-$precision "${common[@]}"
    train parts-$precision "${common[@]}" --stop-after "$half"
    train parts-$precision "${common[@]}" --resume auto
    contains parts-$precision.log "$((steps - half)) steps done"
    same_checkpoint whole-$precision parts-$precision "$steps"
    cmp <(metric whole-$precision loss) <(metric parts-$precision loss) ||
        fail "$precision: losses differ after the resume"
    cmp <(metric parts-$precision step) <(seq "$steps") || fail "$precision: steps are missing or doubled"
    echo "$precision: $half + $((steps - half)) steps are $steps steps to the bit"
done
