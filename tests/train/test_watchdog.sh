#!/bin/bash
# A run on three ranks of which one is killed or stopped: the others name it and the job ends in time, with its code; and
# it goes on from its last checkpoint. A pause shorter than the bound changes nothing.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
host=$(hostname)

# start RUN ARGUMENT...: trains on three ranks in the background; each leaves its process number in RUN.R.pid.
start() {
    local run=$1
    shift
    rm -f "$run".*.pid
    # shellcheck disable=SC2016
    mpirun -n 3 sh -c 'echo $$ > "$0.$OMPI_COMM_WORLD_RANK.pid"; exec "$@"' "$run" "$vasily" train tiny.yaml \
        run.dir="$run" train.global_batch=12 data.lanes=6 parallel.heartbeat_seconds=0.2 parallel.silent_seconds=3 "$@" \
        > "$run.log" 2>&1 &
    job=$!
}

reach() { # reach RUN STEP: waits until the run has come so far
    local tries=0
    until [ -f "$1/metrics.jsonl" ] && [ "$(wc -l < "$1/metrics.jsonl")" -ge "$2" ]; do
        kill -0 $job 2> /dev/null || fail "$1 ended before step $2"
        [ $((tries += 1)) -lt 2400 ] || fail "$1 does not reach step $2"
        sleep 0.05
    done
}

# ended RUN CODES SECONDS: waits for the job and checks its code, and that it took no longer since `since`.
ended() {
    local code=0 took
    wait $job || code=$?
    took=$(echo "$(date +%s.%N) - $since" | bc)
    echo "$1: exit code $code after $took s"
    [[ " $2 " == *" $code "* ]] || fail "$1: exit code $code instead of $2"
    [ "$(echo "$took < $3" | bc)" = 1 ] || fail "$1: $took s until the job was over, at most $3"
}

# told RUN RANK TEXT...: the rank's line in the log says all of it, and its flight record is there.
told() {
    local run=$1 rank=$2 line
    shift 2
    line=$(grep -F "error [$rank]" "$run.log" | head -1) || fail "rank $rank of $run says nothing"
    for text in "$@"; do
        [[ $line == *$text* ]] || fail "rank $rank of $run does not say \"$text\""
    done
    contains "$run/flight-record/rank-$rank.jsonl" '"activity": "computing"'
}

start killed train.steps=100000 checkpoint.every=5
reach killed 8
since=$(date +%s.%N)
sleep 0.5 # what is known of a lost rank is as old as its last heartbeat
kill -KILL "$(cat killed.1.pid)"
ended killed "137 76" 10 # whichever mpirun hears of first: the killed one's end or another's
for rank in 0 2; do
    told killed $rank "rank 1 on $host has died: its connection closed" "it was at step " "collective " \
        "the job ends with code 76" "killed/flight-record/rank-$rank.jsonl"
done
# What it was in: steps are counted, and a sum or a gathering has a size; a barrier has none.
grep -qE "it was at step [0-9]+ \([a-z ]+\), (in|after) collective [0-9]+, ([a-z ]+ of [0-9]+ (floats|doubles|bytes)|barrier)" killed.log ||
    fail "step and collective are not named"
# shellcheck disable=SC2012
steps=$(ls killed/checkpoints | sed -n 's/^step-0*\([0-9]*\)$/\1/p' | sort -n | tail -1)
expect 0 resumed.log mpirun -n 3 "$vasily" train tiny.yaml run.dir=killed train.global_batch=12 data.lanes=6 \
    train.steps=$((steps + 2)) --resume auto
# What is in flight-record/ is of the last start.
[ ! -e killed/flight-record ] || fail "an earlier start's flight record is where this one's would be"
[ -f killed/flight-record.set-aside/rank-0.jsonl ] || fail "the flight record was not set aside"

start stopped train.steps=100000
reach stopped 3
since=$(date +%s.%N)
sleep 0.5
kill -STOP "$(cat stopped.0.pid)"
ended stopped 76 15
for rank in 1 2; do told stopped $rank "rank 0 on $host has not been heard of for " "it was at step "; done

# Shorter than the bound: the same weights as without.
start calm train.steps=20
wait $job || fail "a run without faults ended with $?"
start paused train.steps=20
reach paused 5
kill -STOP "$(cat paused.2.pid)"
sleep 1
kill -CONT "$(cat paused.2.pid)"
wait $job || fail "a run with a pause ended with $?"
[ ! -e paused/flight-record ] || fail "a flight record without need"
[ -n "$(hashes calm/checkpoints/step-0000020)" ] || fail "no checkpoint"
cmp <(hashes calm/checkpoints/step-0000020) <(hashes paused/checkpoints/step-0000020) || fail "a pause changed the weights"

# A rank that fails says why, once and before the others say it too and end.
# All write to one file, which keeps their order.
# shellcheck disable=SC2016
expect 3 mpirun.log mpirun -n 3 sh -c 'exec "$@" 2>> failed.log' sh "$vasily" train tiny.yaml run.dir=tiny.yaml/x \
    train.global_batch=12 data.lanes=6
contains failed.log "rank 0 on $host has failed: "
[ "$(grep -cF "error [0]" failed.log)" = 1 ] || fail "rank 0 does not say once why it fails"
grep -F "error [" failed.log | head -1 | grep -qF "error [0]" || fail "rank 0 says why it fails after the others"

# Where all have the same wrong config, each says what is wrong with it, and where another was is no matter.
expect 2 alike.log mpirun -n 3 "$vasily" train tiny.yaml run.dir=alike train.global_batch=11 data.lanes=6
for rank in 0 1 2; do
    grep -F "error [$rank]" alike.log | grep -qF "train.global_batch" || fail "rank $rank does not say what is wrong"
done
! grep -qE "it was |this rank is " alike.log || fail "a config error says where a rank was"
[ ! -e alike/flight-record ] || fail "a flight record of a config error"

# The first look at the run's files is watched: one rank's tokenizer does not open, as on a file server that is gone.
for rank in 0 1 2; do
    mkdir "machine-$rank"
    ln -s "$work/shards" "$work/tiny.yaml" "machine-$rank"
    if [ $rank = 1 ]; then mkfifo machine-1/tokenizer.model; else cp tokenizer.model "machine-$rank"; fi
done
# shellcheck disable=SC2016
mpirun -n 3 sh -c 'echo $$ > "files.$OMPI_COMM_WORLD_RANK.pid"; cd "machine-$OMPI_COMM_WORLD_RANK"; exec "$@"' sh \
    "$vasily" train tiny.yaml run.dir="$work/files" train.global_batch=12 data.lanes=6 > files.log 2>&1 &
job=$!
tries=0
until [ -s files.1.pid ] && grep -qs partner "/proc/$(cat files.1.pid)/wchan"; do # waits for the other end of the pipe
    kill -0 $job 2> /dev/null || fail "files ended before rank 1 hung"
    [ $((tries += 1)) -lt 200 ] || break # not every system says so
    sleep 0.05
done
kill -KILL "$(cat files.1.pid)"
code=0
wait $job || code=$?
[ $code = 137 ] || [ $code = 76 ] || fail "files: exit code $code" # whichever mpirun sees first
for rank in 0 2; do grep -F "error [$rank]" files.log | grep -qF "rank 1 on $host has died" || fail "rank $rank of files"; done
