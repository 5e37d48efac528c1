#!/bin/bash
# One operation goes wrong while a checkpoint is saved: a write, sync, rename, removal or allocation fails, the disk is
# full from there on, or the process is killed there. Whatever becomes of the run, it goes on from its newest whole
# checkpoint, and ends with the bits of a run without the fault. A few places in CI; all of them with VASILY_TEST_LONG=1.
# $3 is the library that makes the fault (save_faults.c). VASILY_TEST_PART=I/N takes every N-th place, from the I-th on (from
# 0): so several processes, each with a folder of its own, share the long test.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
faults=$(readlink -f "$3")
long=${VASILY_TEST_LONG:-} part=${VASILY_TEST_PART:-0/1}
if nm "$vasily" 2> /dev/null | grep ' __[at]san_init' > /dev/null; then
    echo "SKIPPED: test_train_save_faults: a sanitizer has allocators of its own"
    exit 77
fi
sed -i 's/every: 10/every: 2/' tiny.yaml
export OMP_WAIT_POLICY=passive

# train RANKS FOLDER SETTING...
train() {
    local ranks=$1 folder=$2
    shift 2
    if [ "$ranks" = 1 ]; then
        env "${fault[@]}" "$vasily" train tiny.yaml run.dir="$folder" "$@"
    else
        mpirun -n "$ranks" env "${fault[@]}" "$vasily" train tiny.yaml run.dir="$folder" "$@"
    fi
}

# at RANKS ASYNC RANK KIND N: the N-th operation of rank RANK goes wrong while step 6 is saved.
cases=0 survived=0 aborted=0
at() {
    local code=0 what="$1 ranks, async $2, rank $3, $4 at $5"
    rm -rf run case.log again.log
    cp -a "base$1" run
    fault=(LD_PRELOAD="$faults" VASILY_FAULT_KIND="$4" VASILY_FAULT_AT="$5" VASILY_FAULT_RANK="$3")
    train "$1" run checkpoint.async="$2" --resume auto --stop-after 6 > case.log 2>&1 || code=$?
    fault=(A=)
    [ ! "$long" ] || echo "$what: $code"
    cases=$((cases + 1))
    case $4-$code in
    *-0) survived=$((survived + 1)) ;;
    eio-3 | enospc-3) contains case.log "error" ;;
    malloc-4 | malloc-3 | malloc-255) contains case.log "error" ;; # 255: the HDF5 library itself ends the process
    malloc-134) # the C library does, after HDF5 (H5FL, 1.10.8) has freed a free list that it goes on to use
        aborted=$((aborted + 1))
        [ "$long" ] && [ $aborted -le 3 ] && grep -qE 'corrupted|free\(\)|malloc\(\)' case.log ||
            fail "$what: exit code $code"
        ;;
    kill-137 | kill-76) ;;
    *) fail "$what: exit code $code" ;;
    esac
    expect 0 again.log train "$1" run --resume auto --stop-after 8
    [ "$(hashes run/checkpoints/step-0000008)" = "$want" ] || fail "$what: the run that went on has other bits"
    ! ls run/checkpoints | grep -q tmp || fail "$what: temporary files are left: $(ls run/checkpoints)"
    cmp <(metric run step) <(seq 8) || fail "$what: steps are missing or doubled"
}

# places COUNT FEW EACH: so many numbers from 1 to COUNT, evenly; every EACH-th of them in the long test, 0: none. Of
# these, this part's.
places() {
    if [ ! "$long" ]; then
        for ((i = 1; i <= $2; i++)); do echo $((i * $1 / ($2 + 1) + 1)); done
    elif [ "$3" -gt 0 ]; then
        seq 1 "$3" "$1"
    fi | awk -v part="${part%/*}" -v parts="${part#*/}" 'NR % parts == part'
}

# all RANKS ASYNC RANK EIO KILL ENOSPC MALLOC: faults of each kind, as "few/each" for places.
all() {
    local ranks=$1 async=$2 rank=$3 kind count
    rm -rf run
    cp -a "base$ranks" run
    fault=(LD_PRELOAD="$faults" VASILY_FAULT_COUNT="$work/count" VASILY_FAULT_RANK="$rank")
    expect 0 count.log train "$ranks" run checkpoint.async="$async" --resume auto --stop-after 6
    read -r calls allocations < count
    [ "$calls" -gt 10 ] || fail "only $calls operations were seen while saving"
    echo "$ranks ranks, async $async, rank $rank: $calls operations, $allocations allocations"
    shift 3
    for kind in eio kill enospc malloc; do
        count=$calls
        [ $kind = malloc ] && count=$allocations
        for n in $(places "$count" "${1%/*}" "${1#*/}"); do at "$ranks" "$async" "$rank" $kind "$n"; done
        shift
    done
}

fault=(A=)
for ranks in 1 2; do
    expect 0 base$ranks.log train $ranks base$ranks --stop-after 4
    cp -a base$ranks whole$ranks
    expect 0 whole$ranks.log train $ranks whole$ranks --resume auto --stop-after 8
    want=$(hashes whole$ranks/checkpoints/step-0000008)
    [ -n "$want" ] || fail "no checkpoint of step 8"
    if [ $ranks = 1 ]; then
        all 1 true 0 2/1 2/1 1/5 1/97
        all 1 false 0 1/3 1/3 0/7 0/97
    else
        all 2 true 0 0/1 1/1 0/5 0/0
        all 2 true 1 1/1 0/1 0/5 0/0
        all 2 false 1 0/1 0/1 0/5 0/0
    fi
done
echo "$cases faults, $survived of them without the run's end; every run went on to the same bits"
