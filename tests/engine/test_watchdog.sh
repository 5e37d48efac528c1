#!/bin/bash
# Whatever happens to a rank, the others say which one, where and in which collective, within the bound, and the job ends
# with its code. $1: watchdog_ranks; $2: "short" for a choice of the cases, "rest" for the others.
set -euo pipefail
program=$(readlink -f "$1")
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../launch" && pwd)
choice=${2:-short}
work=$(mktemp -d "${TMPDIR:-/tmp}/vasily-watchdog.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
export OMP_NUM_THREADS=1
host=$(hostname)

fail() {
    echo "FAILED: $name: $*" >&2
    cat log >&2
    exit 1
}

# job RANKS MACHINES CASE RANK CODE...: leaves the lines of each rank in log, and $seconds. Where a rank is killed, the
# launcher gives its 137, or on a busy machine the 76 of one that saw it die: whichever end it hears of first.
job() {
    local code=0 begun expected
    name="$3 of rank $4 of $1 on $2 machines"
    rm -rf records
    begun=$(date +%s.%N)
    timeout 240 "$launch/mpirun" "$1" "$program" "$3" "$4" "$2" records > log 2>&1 || code=$?
    seconds=$(echo "$(date +%s.%N) - $begun" | bc)
    expected=" ${*:5} "
    [[ $expected == *" $code "* ]] || fail "exit code $code instead of$expected"
    echo "$name: code $code after $seconds s"
}

# told RANK TEXT...: rank RANK's line has all the texts. A world of n writes "[rank]" before each message.
told() {
    local line rank=$1
    shift
    line=$(grep -F "error [$rank]" log | head -1) || fail "rank $rank says nothing"
    for text in "$@"; do
        case $line in *"$text"*) ;; *) fail "rank $rank does not say \"$text\"" ;; esac
    done
}

# recorded RANK: its flight record is there and its last line is an unfinished sum, or TEXT.
recorded() {
    [ -f "records/rank-$1.jsonl" ] || fail "no flight record of rank $1"
    tail -1 "records/rank-$1.jsonl" | grep -qF "${2:-\"kind\": \"sum\", \"count\": 1000, \"unit\": \"floats\"}" || fail "flight record of rank $1"
}

quiet() {
    ! grep -q "error" log || fail "a false alarm"
    [ ! -e records ] || fail "a flight record without need"
}

if [ "$choice" = short ]; then
    job 3 0 none 0 0
    quiet
    job 3 0 die 1 137 76
    for r in 0 2; do
        told $r "rank 1 on $host has died" "at step 10 (computing)" "after collective" "this rank is at step 10" \
            "sum of 1000 floats" "code 76"
        recorded $r '"state": "begun"'
    done
    job 3 0 late 2 76
    for r in 0 1 2; do
        told $r "rank 2 on $host lives but falls behind" "in collective" "sum of 1000 floats" "at step 10"
        recorded $r
    done
    tail -1 records/rank-0.jsonl | grep -q '"state": "begun"' || fail "rank 0 was not in a collective"
    tail -1 records/rank-2.jsonl | grep -q '"state": "done"' || fail "rank 2 was in a collective"
    last=$(sed -n 's/.*"collective": \([0-9]*\),.*/\1/p' records/rank-0.jsonl | tail -1)
    told 1 "in collective $last, sum of 1000 floats"
    job 3 0 order 1 6
    for r in 0 2; do
        told $r "collective $last" "rank 1" "barrier"
        recorded $r "\"collective\": $last, \"kind\": \"sum\""
    done
    recorded 1 "\"collective\": $last, \"kind\": \"barrier\""
    job 4 2 stop 2 76 # a leader
    for r in 0 1 3; do told $r "rank 2 on $host has not been heard of for " "at step 10"; done
    exit 0
fi

job 3 0 die 0 137 76
for r in 1 2; do told $r "rank 0 on $host has died" "at step 10"; done
job 3 0 stop 1 76
for r in 0 2; do told $r "rank 1 on $host has not been heard of for " "at step 10"; done
job 3 0 stop 0 76
for r in 1 2; do told $r "rank 0 on $host has not been heard of for " "at step 10"; done
for r in 0 2 3; do # rank 0, a leader, and a rank below it
    job 4 2 die $r 137 76
    for other in 0 1 2 3; do
        [ $other = $r ] || told $other "rank $r on $host has died" "at step 10"
    done
done
job 4 4 stop 3 76
for r in 0 1 2; do told $r "rank 3 on $host has not been heard of for "; done
job 4 2 late 3 76
for r in 0 1 2 3; do told $r "rank 3 on $host lives but falls behind"; done
job 3 0 fail 1 5
for r in 0 2; do told $r "rank 1 on $host has failed: the loss of rank 1 is not finite" "the job ends with code 5"; done
[ ! -e records ] || fail "a flight record, though no collective is to blame"
job 3 0 comm 1 6
for r in 0 2; do told $r "rank 1 on $host has failed: a broken pipe to rank 9"; done
recorded 1
job 3 0 hang 0 76
for r in 0 1 2; do told $r "which all ranks have begun: the network between them hangs" "sum of 77 floats"; done
job 3 0 stuck 0 76
for r in 0 1 2; do told $r "no rank has come further for 3."; done

# What is borne: stopping all for longer than the bound, one for shorter.
job 4 2 all-stop 0 0
quiet
export BOUND=20
job 3 0 delay 1 0
quiet
job 4 2 pause 2 0
quiet
