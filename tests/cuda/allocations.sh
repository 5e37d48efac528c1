#!/bin/bash
# After the first step nothing is allocated, neither replayed nor kernel by kernel. allocations.sh VASILY MAKE_TEST_SHARDS
# shellcheck source=tests/cuda/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
steps=${VASILY_TEST_STEPS:-8}

for variant in device.graphs=true device.graphs=false train.micro_batch=2 train.recompute=true; do
    train "run-${variant#*.}" "$variant" train.steps="$steps"
    [ "$(metric "run-${variant#*.}" step | tail -n 1)" = "$steps" ] || fail "$variant: not $steps steps"
    no_allocations "run-${variant#*.}"
    echo "$variant: no allocation in steps 2 to $steps"
done
