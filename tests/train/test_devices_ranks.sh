#!/bin/bash
# Several ranks, each with a device of its own (the emulated ones, $3): what they exchange gives the losses of one rank on
# the processor, and the same bits with the optimizer whole or divided, recorded or not, hidden or not, and in whatever
# order the device does what is not ordered.
# shellcheck source=tests/train/common.sh disable=SC2154
emulated=$(readlink -f "$3")
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive VASILY_EMU_OPEN=1
sed -i 's/global_batch: 8/global_batch: 4/; s/lanes: .*/lanes: 12/; s/pct_start: .*/pct_start: 0.02\n  clip_norm: 0.3/' \
    tiny.yaml

# train RANKS FOLDER SETTING...: 4 steps
train() {
    local ranks=$1 folder=$2
    shift 2
    VASILY_CUDA_LIBRARY=$emulated expect 0 "$folder.log" mpirun -n "$ranks" "$vasily" train tiny.yaml train.steps=4 \
        run.dir="$folder" device.name=cuda "$@"
    ! grep -F "cannot be recorded" "$folder.log" || fail "$folder is not recorded"
}
near() { # near FOLDER OTHER LIMIT: their losses, and the norms of their gradients
    local key d
    for key in loss grad_norm; do
        d=$(paste <(metric "$1" $key) <(metric "$2" $key) | awk '
            { d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > worst) worst = d; n++ } END { print n == 4 ? worst : 1 }')
        awk -v d="$d" -v limit="$3" 'BEGIN { exit !(d <= limit) }' || fail "$key of $1 and $2 differ by $d"
    done
}
same() { # same FOLDER OTHER: their checkpoints and norms are the same to the bit
    cmp <(hashes "$1/checkpoints/step-0000004") <(hashes "$2/checkpoints/step-0000004") || fail "$1 and $2 differ"
    cmp <(metric "$1" grad_norm) <(metric "$2" grad_norm) || fail "the norms of $1 and $2 differ"
}

# With VASILY_TEST_LONG=1 all of these, else those that differ most.
long=${VASILY_TEST_LONG:-}

expect 0 cpu.log "$vasily" train tiny.yaml train.steps=4 run.dir=cpu device.name=cpu
train 1 one
near one cpu 1e-5
train 1 alone parallel.exchange_alone=true parallel.shard=all
same alone one
for ranks in 2 ${long:+4}; do
    train "$ranks" "$ranks"
    train "$ranks" "$ranks-all" parallel.shard=all
    near "$ranks" cpu 1e-5
    same "$ranks-all" "$ranks"
    [ "$(metric "$ranks-all" allocations | tail -n +2 | sort -u)" = 0 ] || fail "a step of $ranks ranks allocates"
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

# Groups of parameters, and a guard whose limits are so low that ordinary steps are left out: the processor's decisions.
tuned=(train.steps=9 guard.window=8 guard.warmup=0 guard.loss_z=1 guard.grad_norm_z=1 guard.action=skip
    'optim.groups=[{match: "input_blocks.*", lr: 0}, {match: "*.encoder_kv.*", lr: 0.1}]')
expect 0 tuned-cpu.log "$vasily" train tiny.yaml run.dir=tuned-cpu device.name=cpu "${tuned[@]}"
train 2 tuned parallel.shard=all "${tuned[@]}"
acted() { sed 's/.*"guard": "\([a-z]*\)".*/\1/; t; s/.*/-/' "$1/metrics.jsonl"; }
[ "$(acted tuned | sort -u | tr '\n' ' ')" = "- skip " ] || fail "the guard left out all steps, or none"
cmp <(acted tuned) <(acted tuned-cpu) || fail "the guard left out other steps on a device"
cmp <(acted tuned) <(metric tuned skipped | sed 's/true/skip/; s/false/-/') || fail "what is left out is not told"
for run in tuned tuned-cpu; do # tensors of shares come in another order
    "$vasily" inspect $run --json | grep -o '{"name": "input_blocks[^}]*}' | sort > $run.json
done
[ -s tuned.json ] || fail "inspect tells of no held parameters"
cmp tuned.json tuned-cpu.json || fail "held, other bits"
[ "$(metric tuned allocations | tail -n +2 | sort -u)" = 0 ] || fail "a step with groups and a guard allocates"

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
