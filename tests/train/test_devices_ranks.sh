#!/bin/bash
# Several ranks, each with a device of its own (the emulated ones, $3): what they exchange gives the losses of one rank on
# the processor, and the same bits with the optimizer whole or divided, recorded or not, hidden or not, and in whatever
# order the device does what is not ordered.
# shellcheck source=tests/train/common.sh disable=SC2154
emulated=$(readlink -f "$3")
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive VASILY_EMU_OPEN=1
sed -i 's/global_batch: 8/global_batch: 4/; s/lanes: .*/lanes: 12/; s/pct_start: .*/pct_start: 0.02/' \
    tiny.yaml

# train RANKS FOLDER SETTING...: 4 steps
train() {
    local ranks=$1 folder=$2
    shift 2
    VASILY_CUDA_LIBRARY=$emulated expect 0 "$folder.log" mpirun -n "$ranks" "$vasily" train tiny.yaml train.steps=4 \
        run.dir="$folder" device.name=cuda "$@"
}
near() { # near FOLDER OTHER LIMIT: their losses, and the norms of their gradients
    local key d
    for key in loss grad_norm; do
        d=$(paste <(metric "$1" $key) <(metric "$2" $key) | awk '
            { d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > worst) worst = d; n++ } END { print n == 4 ? worst : 1 }')
        awk -v d="$d" -v limit="$3" 'BEGIN { exit !(d <= limit) }' || fail "$key of $1 and $2 differ by $d"
    done
}
same() { # same FOLDER OTHER: their checkpoints hold the same bits
    cmp <(hashes "$1/checkpoints/step-0000004") <(hashes "$2/checkpoints/step-0000004") || fail "$1 and $2 differ"
}

# With VASILY_TEST_LONG=1 all of these, else those that differ most.
long=${VASILY_TEST_LONG:-}

expect 0 cpu.log "$vasily" train tiny.yaml train.steps=4 run.dir=cpu device.name=cpu
train 1 one
near one cpu 1e-5
train 1 alone parallel.exchange_alone=true parallel.shard=all
same alone one
for ranks in 2 ${long:+4}; do
    train $ranks $ranks
    train $ranks $ranks-all parallel.shard=all
    near $ranks cpu 1e-5
    same $ranks-all $ranks
    [ "$(metric $ranks-all grad_norm)" = "$(metric $ranks grad_norm)" ] || fail "the norms of $ranks ranks differ"
    [ "$(metric $ranks-all allocations | tail -n +2 | sort -u)" = 0 ] || fail "a step of $ranks ranks allocates"
done
! cmp -s <(hashes 2/checkpoints/step-0000004) <(hashes one/checkpoints/step-0000004) ||
    fail "1 and 2 ranks give the same bits, so these comparisons see nothing"
train 4 4-node parallel.shard=node parallel.group=2
near 4-node cpu 1e-5

# Three ranks, rounded gradients, bf16 copies beside the weights.
narrow=(train.global_batch=3 parallel.wire=bf16 model.precision=bf16)
train 3 3 "${narrow[@]}"
train 3 3-all "${narrow[@]}" parallel.shard=all
same 3-all 3

# Kernel by kernel, and late: the same bits.
for late in 1 2; do
    VASILY_EMU_LAZY=$late train 2 2-loose-$late parallel.shard=all device.graphs=false
    same 2-loose-$late 2
done

if [ "$long" ]; then
    train 2 2-one parallel.shard=node parallel.group=1
    same 2-one 2
    train 2 2-off parallel.shard=all parallel.overlap=false
    same 2-off 2
    VASILY_EMU_LAZY=2 train 2 2-late parallel.shard=all
    same 2-late 2
    train 2 2-micro parallel.shard=all train.micro_batch=1
    near 2-micro cpu 1e-5
    VASILY_EMU_LAZY=2 train 2 2-micro-loose parallel.shard=all train.micro_batch=1 device.graphs=false
    same 2-micro-loose 2-micro
    train 2 2-wire parallel.wire=bf16
    near 2-wire cpu 1e-3
    cmp -s <(metric 2-wire grad_norm) <(metric 2 grad_norm) && fail "bf16 on the wire rounds nothing"
    train 3 3-wire train.global_batch=3 parallel.wire=bf16 parallel.shard=all
    train 3 3-wire-whole train.global_batch=3 parallel.wire=bf16
    same 3-wire 3-wire-whole
fi

# Two ranks with one device are named, before anything is opened.
VASILY_EMU_DEVICE=1 VASILY_CUDA_LIBRARY=$emulated expect 2 shared.log mpirun -n 3 "$vasily" train tiny.yaml \
    train.global_batch=3 device.name=cuda run.dir=shared
contains shared.log "ranks 0 and 1 have the same GPU"
contains shared.log "0000:00:00.0"
