#!/bin/bash
# One flipped bit in the memory of one rank is noticed when the ranks compare, which names rank, step and parameter and
# ends the job with 6; what is saved was compared. $3 is test_consistency; $4 the emulated device, where there is one.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
flip=$3
emulated=${4:-}
run=0

flipped() { # flipped CODE RANKS WHERE RANK [OVERRIDE...]: trains 5 steps, flips, trains on; comparing every 4
    local code=$1 ranks=$2 where=$3 rank=$4
    shift 4
    run=$((run + 1))
    expect "$code" flip.log mpirun -n "$ranks" "$flip" tiny.yaml "$where" "$rank" run.dir=run$run train.steps=12 \
        checkpoint.every=0 train.global_batch=12 data.lanes=12 "$@"
    name=$(sed -n 's/^flipped a bit of //p' flip.log)
}
sed -i 's/^checkpoint:/parallel:\n  compare_every: 4\n&/' tiny.yaml
host=$(hostname)
saved="The newest checkpoint, of step 5, was compared before it was saved"

flipped 6 3 weights 1
contains flip.log "after step 8 rank 1 on $host has other weights than the other 2 ranks, first in $name"
contains flip.log "; also: moving average"
contains flip.log "Leave $host out of the job and test it. $saved"
[ -d run1/checkpoints/step-0000005 ] || fail "the checkpoint from before the fault is gone"
[ ! -e run1/checkpoints/step-0000012 ] || fail "a step was saved whose weights differ between the ranks"

flipped 6 2 weights 1
contains flip.log "after step 8 rank 0 on $host and rank 1 on $host do not have the same weights, first in $name"
contains flip.log "cannot be told"
flipped 6 3 ema 0
contains flip.log "after step 8 rank 0 on $host has another moving average than the other 2 ranks"
flipped 6 3 v 2
contains flip.log "after step 8 rank 2 on $host has other "
contains flip.log "second moments"
contains flip.log ", first in $name"

# Before a checkpoint as well, however rarely it is compared; and never, if so asked.
flipped 6 3 weights 2 parallel.compare_every=1000
contains flip.log "after step 12 rank 2 on $host has other weights"
[ ! -e run$run/checkpoints/step-0000012 ] || fail "a step was saved whose weights differ between the ranks"
flipped 0 3 weights 2 parallel.compare_every=0

# Divided between the ranks of a group: the owners of a share in each group hold the same, ranks 0 and 2 here.
flipped 6 4 m 2 parallel.shard=node parallel.group=2
contains flip.log "after step 8 rank 0 on $host and rank 2 on $host do not have the same "
contains flip.log "first moments"
contains flip.log ", first in $name"
# Divided among all ranks nobody else holds a moment; and where nothing is wrong, nothing is said.
flipped 0 3 m 2 parallel.shard=all
contains flip.log "the weights of 3 ranks were compared 5 times"

# The device's own hash, and what lies in its memory alone.
[ -n "$emulated" ] || { echo "SKIPPED the comparison on a device: none is emulated" && exit 0; }
export VASILY_EMU_OPEN=1 VASILY_CUDA_LIBRARY=$emulated
flipped 6 2 ema 0 device.name=cuda train.global_batch=2 parallel.compare_every=1
contains flip.log "after step 6 rank 0 on $host and rank 1 on $host do not have the same moving average, first in $name"
