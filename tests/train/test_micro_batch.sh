#!/bin/bash
# train.micro_batch: auto is the largest divisor of a rank's share of the batch that fits the memory, and a resumed run
# keeps the one that its checkpoint was computed with.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

figure() { # figure FILE KEY
    sed -n "s/.*\"$2\": *\([0-9.e+]*\).*/\1/p" "$1" | head -1
}
plan() { # plan FILE OVERRIDE...
    "$vasily" plan tiny.yaml --json train.global_batch=360 train.resolution=32 "${@:2}" > "$1" 2> plan.log
}
fits() { # fits MICRO-BATCH: whether training with it is let through (there is no such file, so it goes no further)
    "$vasily" train tiny.yaml train.global_batch=360 train.resolution=32 data.lanes=1 "train.micro_batch=$1" \
        init.from=none.safetensors run.dir=fits > fits.log 2>&1 && fail "it ran"
    rm -rf fits
    ! grep -q "are free for it" fits.log
}

# With room for everything it is the whole share; with less, the largest divisor of 360 that fits and no larger one.
plan all.json train.micro_batch=auto || fail "plan with auto"
[ "$(figure all.json micro_batch)" = 360 ] || fail "with all memory: $(figure all.json micro_batch)"
plan one.json train.micro_batch=1 || fail "plan with 1"
base=$(figure one.json total) most=$(figure all.json total)
for percent in 20 45 80; do
    export VASILY_MEMORY_BYTES=$((base + (most - base) * percent / 100))
    plan auto.json train.micro_batch=auto || fail "plan with auto in $VASILY_MEMORY_BYTES bytes"
    chosen=$(figure auto.json micro_batch)
    [ $((360 % chosen)) = 0 ] || fail "$chosen does not divide 360"
    next=$((chosen + 1))
    while [ $((360 % next)) != 0 ]; do next=$((next + 1)); done
    fits "$chosen" || fail "in $percent%: $chosen was chosen and does not fit"
    if fits "$next"; then fail "in $percent%: $chosen was chosen and $next fits"; fi
    echo "in $percent% of the memory: micro-batches of $chosen, not of $next"
done

# Too little for anything is refused before training, with what would help.
export VASILY_MEMORY_BYTES=$((base / 3))
expect 4 refused.log "$vasily" train tiny.yaml train.micro_batch=auto train.steps=1
contains refused.log "What helps:"
unset VASILY_MEMORY_BYTES

# 4 + 4 steps equal 8, though the second half would have had room for more at once.
expect 0 whole.log "$vasily" train tiny.yaml train.micro_batch=2 train.steps=8 run.dir=whole checkpoint.every=0
expect 0 first.log "$vasily" train tiny.yaml train.micro_batch=2 train.steps=4 run.dir=half checkpoint.every=0 \
    optim.total_steps=60
expect 0 second.log "$vasily" train tiny.yaml train.micro_batch=auto train.steps=8 run.dir=half checkpoint.every=0 \
    --resume auto
contains second.log "train.micro_batch: auto is 2 here"
[ "$(hashes whole/checkpoints/step-0000008)" = "$(hashes half/checkpoints/step-0000008)" ] ||
    fail "a resumed run with micro_batch auto has other weights"

# Words and numbers that make no sense are refused with what would.
expect 2 word.log "$vasily" train tiny.yaml train.micro_batch=most
contains word.log "or auto"
expect 2 negative.log "$vasily" train tiny.yaml train.micro_batch=-1
