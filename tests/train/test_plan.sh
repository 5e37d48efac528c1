#!/bin/bash
# The plan: sharing memory changes no bit; nothing is allocated after the first step; `vasily plan` tells what is used.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

for variant in "train.plan_reuse=true" "train.plan_reuse=false" "train.recompute=true"; do
    dir=run-${variant#train.}
    expect 0 "$dir.log" "$vasily" train tiny.yaml "$variant" run.dir="$dir" train.steps=8
    [ "$(metric "$dir" allocations | tail -n +2 | sort -u)" = 0 ] ||
        fail "$variant: allocations after the first step: $(metric "$dir" allocations | tr '\n' ' ')"
    "$vasily" plan tiny.yaml "$variant" --json > "$dir.json" 2> plan.log || fail "plan $variant"
    planned=$(sed -n 's/.*"activations": *\([0-9]*\).*/\1/p' "$dir.json")
    contains "$dir.log" "activations $planned bytes"
    echo "$variant: activations $planned bytes"
done
with=$(hashes run-plan_reuse=true/checkpoints/step-0000008)
[ -n "$with" ] && [ "$with" = "$(hashes run-plan_reuse=false/checkpoints/step-0000008)" ] ||
    fail "reuse of memory changes results"
cmp <(metric run-plan_reuse=true loss) <(metric run-recompute=true loss) || fail "recomputation changes losses"

"$vasily" plan tiny.yaml --ranks 4 > plan.txt 2> plan.log || fail "plan --ranks 4"
contains plan.txt "4 ranks"
"$vasily" plan tiny.yaml --ops > ops.txt 2> plan.log || fail "plan --ops"
