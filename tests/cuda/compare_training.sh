#!/bin/bash
# A device learns what the processor learns: losses and gradient norms of 50 steps from the same seed, in fp32 and in
# bf16, against the CPU backend in fp32. compare_training.sh VASILY MAKE_TEST_SHARDS
#
# VASILY_TEST_WIDE=1 adds a network of three levels with more channels.
# shellcheck source=tests/cuda/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
steps=${VASILY_TEST_STEPS:-50}

# Limits of the mean and of the worst relative difference. Two instruction sets of one processor differ in fp32 by 2e-8
# and 2e-7 in the loss and by six times that in the norms; bf16 and fp32 on it by 1e-4 and 8e-4, and ten times that.
compare() { # NAME OVERRIDE...
    local name=$1
    shift
    expect 0 "$name-cpu.log" "$vasily" train tiny.yaml "run.dir=$name-cpu" device.name=cpu train.steps="$steps" "$@"
    for precision in f32 bf16; do
        train "$name-$precision" train.steps="$steps" "model.precision=$precision" "$@"
    done
    agree "$name-cpu" "$name-f32" loss "$steps" 1e-6 1e-5
    agree "$name-cpu" "$name-f32" grad_norm "$steps" 1e-5 1e-4
    agree "$name-cpu" "$name-bf16" loss "$steps" 1e-3 1e-2
    agree "$name-cpu" "$name-bf16" grad_norm "$steps" 1e-2 1e-1
}

compare tiny
[ -z "${VASILY_TEST_WIDE-}" ] ||
    compare wide optim.max_lr=3e-4 model.channels=64 'model.channel_mult=[1,2,3]' 'model.attention_levels=[2,4]'

# Drawing: evaluations are recorded and replayed; a second draw is the first, and the emulated device draws the processor's
# picture to the byte.
draw() { # DEVICE PICTURE
    expect 0 "draw-$2.log" "$vasily" sample tiny-cpu --device "$1" --prompt "a red square" --steps 5 --scale 3 --seed 3 \
        --out "$2.png"
}
draw cpu picture-cpu
draw "$device" picture
draw "$device" again
cmp picture.png again.png || fail "two draws of one seed differ"
[ -z "${VASILY_CUDA_LIBRARY-}" ] || cmp picture-cpu.png picture.png || fail "the emulated device draws another picture"
