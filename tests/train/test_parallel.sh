#!/bin/bash
# What the ranks exchange changes nothing but rounding: with any number of them, the optimizer whole or divided among all
# or among groups, gradients accumulated or not, the losses of 20 steps are those of one rank within 1e-5; and on the same
# ranks the divided optimizer gives the same bits. A checkpoint of any of these goes on as any other.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
sed -i 's/global_batch: 8/global_batch: 48/; s/lanes: .*/lanes: 12/' tiny.yaml
grep -q 'lanes: 12' tiny.yaml || fail "tiny.yaml has no lanes"

# train RANKS FOLDER SETTING...
train() {
    local ranks=$1 folder=$2
    shift 2
    expect 0 "$folder.log" mpirun -n "$ranks" "$vasily" train tiny.yaml train.steps=20 run.dir="$folder" "$@"
}

# near FOLDER OTHER COUNT: the last COUNT losses of FOLDER are those of OTHER.
worst=0
near() {
    local d
    d=$(paste <(metric "$1" loss | tail -n "$3") <(metric "$2" loss | tail -n "$3") | awk '
        { d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "%.3g", n ? worst : 1 }')
    awk -v d="$d" 'BEGIN { exit !(d <= 1e-5) }' || fail "losses of $1 and $2 differ by $d"
    worst=$(awk -v d="$d" -v w="$worst" 'BEGIN { print (d > w ? d : w) }')
}

same() { # same FOLDER OTHER STEP: their checkpoints of STEP hold the same bits
    cmp <(hashes "$1/checkpoints/step-$3") <(hashes "$2/checkpoints/step-$3") || fail "$1 and $2 differ at step $3"
}

# All combinations with VASILY_TEST_LONG=1, else some of each.
long=${VASILY_TEST_LONG:-}
for accumulate in 1 4; do
    for ranks in 1 2 3 4; do
        [ "$long" ] || [ "$accumulate-$ranks" != 4-1 ] || continue
        [ "$long" ] || [ "$accumulate-$ranks" != 4-3 ] || continue
        [ "$long" ] || [ "$accumulate-$ranks" != 4-4 ] || continue
        for shard in none all; do
            run=$ranks-$shard-$accumulate
            train $ranks $run parallel.shard=$shard train.micro_batch=$((48 / ranks / accumulate))
            near $run 1-none-1 20
            [ "$(metric $run allocations | tail -n +2 | sort -u)" = 0 ] || fail "$run allocates after the first step"
        done
        same $ranks-none-$accumulate $ranks-all-$accumulate 0000020
        [ "$(metric $ranks-none-$accumulate grad_norm)" = "$(metric $ranks-all-$accumulate grad_norm)" ] ||
            fail "the norms of $ranks ranks differ with the optimizer divided"
    done
done
! cmp -s <(hashes 2-none-1/checkpoints/step-0000020) <(hashes 4-none-1/checkpoints/step-0000020) ||
    fail "2 and 4 ranks give the same bits, so these comparisons see nothing"

# Groups: 4 ranks as 2 x 2; and groups of one, where nothing is divided but everything goes the other way.
train 4 4-node parallel.shard=node parallel.group=2
train 2 2-node parallel.shard=node parallel.group=1
near 4-node 1-none-1 20
near 2-node 1-none-1 20
same 2-node 2-none-1 0000020

# Whether transfers hide changes no bit.
train 3 3-off parallel.shard=all parallel.overlap=false
same 3-off 3-all-1 0000020
# Rounded gradients: near the others, the same bits divided or not.
train 3 3-none-bf16 parallel.wire=bf16
train 3 3-all-bf16 parallel.wire=bf16 parallel.shard=all
same 3-none-bf16 3-all-bf16 0000020
paste <(metric 3-none-bf16 loss) <(metric 1-none-1 loss) | awk '
    { d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > 1e-3) bad = 1; if (d > 0) some = 1 }
    END { exit bad || !some }' || fail "losses with bf16 on the wire are not near those without, or the same"

# Resuming: the run of FROM up to step 10, then as another. Bits where the ranks are as many, else within rounding.
pairs="1-none:3-all 2-none:2-all 2-all:2-none 4-node:1-none"
[ ! "$long" ] || pairs="$pairs 3-all:1-none 4-all:3-none 3-none:4-node 4-node:2-all 2-all:4-node 1-none:1-all 4-all:4-node"
for pair in $pairs; do
    from=${pair%:*} to=${pair#*:} run=resumed-${pair%:*}-${pair#*:}
    mode=$(sed 's/^[0-9]*-//' <<< "$from")
    group=0; [ "$mode" = node ] && group=2
    train "${from%%-*}" $run parallel.shard="$mode" parallel.group=$group --stop-after 10
    mode=$(sed 's/^[0-9]*-//' <<< "$to")
    group=0; [ "$mode" = node ] && group=2
    train "${to%%-*}" $run parallel.shard="$mode" parallel.group=$group --resume auto
    near $run 1-none-1 20
    [ "${from%%-*}" != "${to%%-*}" ] || [[ $pair = *node* ]] || same $run "${to%%-*}-none-1" 0000020
done

expect 2 bad.log mpirun -n 4 "$vasily" train tiny.yaml run.dir=bad parallel.shard=node parallel.group=3
contains bad.log "parallel.group"
contains bad.log "3 does not divide the 4 ranks"
echo "worst relative difference of losses $worst"
