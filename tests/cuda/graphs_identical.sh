#!/bin/bash
# A step replayed as a CUDA graph gives the bits of one whose kernels are started one by one: losses and everything that
# is saved, with and without micro-batches. graphs_identical.sh VASILY MAKE_TEST_SHARDS
# shellcheck source=tests/cuda/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
steps=${VASILY_TEST_STEPS:-20}

for micro in 8 4; do
    for graphs in true false; do
        train "micro$micro-$graphs" train.steps="$steps" train.micro_batch=$micro device.graphs=$graphs
    done
    cmp <(metric micro$micro-true loss) <(metric micro$micro-false loss) || fail "micro-batch $micro: losses differ"
    cmp <(metric micro$micro-true grad_norm) <(metric micro$micro-false grad_norm) ||
        fail "micro-batch $micro: gradient norms differ"
    same_checkpoint micro$micro-true micro$micro-false "$steps"
    no_allocations micro$micro-true
    no_allocations micro$micro-false
    echo "micro-batch $micro: $steps steps with and without graphs are the same to the bit"
done

# An inpainting model: masks among the inputs, and a first convolution whose weights are packed at every run.
for graphs in true false; do
    train "paint-$graphs" train.steps="$steps" train.micro_batch=4 model.in_channels=25 device.graphs=$graphs
done
cmp <(metric paint-true loss) <(metric paint-false loss) || fail "inpainting: losses differ"
same_checkpoint paint-true paint-false "$steps"
no_allocations paint-true
echo "inpainting: $steps steps with and without graphs are the same to the bit"
