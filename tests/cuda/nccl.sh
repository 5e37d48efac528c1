#!/bin/bash
# What ranks exchange through NCCL. On one GPU: a communicator of one rank, with everything that several would queue,
# changes no bit, recorded or not, with the optimizer whole or divided; on two: whole and divided are the same to the bit,
# and near one. nccl.sh VASILY MAKE_TEST_SHARDS
# shellcheck source=tests/cuda/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
steps=${VASILY_TEST_STEPS:-20}

"$vasily" device | grep -F "NCCL 2." || fail "this build has no NCCL"
train off train.steps="$steps"
for shard in none all; do
    for graphs in true false; do
        run=alone-$shard-$graphs
        train "$run" train.steps="$steps" parallel.exchange_alone=true parallel.shard=$shard device.graphs=$graphs
        cmp <(metric "$run" loss) <(metric off loss) || fail "losses of $run and of a run without NCCL differ"
        same_checkpoint "$run" off "$steps"
        no_allocations "$run"
    done
done
echo "$steps steps with and without a communicator of one rank are the same to the bit"

gpus=$(nvidia-smi -L 2>/dev/null | wc -l)
[ -z "${VASILY_CUDA_LIBRARY:-}" ] || gpus=2 # emulated: each process has one of its own
if [ "$gpus" -lt 2 ]; then
    echo "SKIPPED two ranks: this machine has fewer than two GPUs"
    exit 0
fi
for shard in none all; do
    expect 0 "two-$shard.log" mpirun -n 2 "$vasily" train tiny.yaml "run.dir=two-$shard" "${exact[@]}" \
        train.steps="$steps" parallel.shard=$shard
done
same_checkpoint two-none two-all "$steps"
agree two-all off loss "$steps" 1e-5 1e-5
