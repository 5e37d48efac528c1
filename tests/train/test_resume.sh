#!/bin/bash
# 30 steps, stop, 30 more are 60 steps to the bit, on 1 and on 2 ranks, by --stop-after and by a signal.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

for ranks in 1 2; do
    launch=()
    [ $ranks = 1 ] || launch=(mpirun -n $ranks)
    expect 0 whole$ranks.log "${launch[@]}" "$vasily" train tiny.yaml run.dir=whole$ranks
    expect 0 first$ranks.log "${launch[@]}" "$vasily" train tiny.yaml run.dir=parts$ranks --stop-after 30
    [ "$(readlink parts$ranks/checkpoints/latest)" = step-0000030 ] || fail "latest is not step 30"
    expect 0 second$ranks.log "${launch[@]}" "$vasily" train tiny.yaml run.dir=parts$ranks --resume auto
    contains second$ranks.log "30 steps done"
    a=$(hashes whole$ranks/checkpoints/step-0000060) b=$(hashes parts$ranks/checkpoints/step-0000060)
    [ -n "$a" ] && [ "$a" = "$b" ] || fail "$ranks ranks: 30 + 30 steps are not 60 steps"
    cmp <(metric whole$ranks loss) <(metric parts$ranks loss) || fail "$ranks ranks: losses differ after the resume"
    cmp <(metric parts$ranks step) <(seq 60) || fail "$ranks ranks: steps are missing or doubled in metrics.jsonl"
    [ "$(ls parts$ranks/checkpoints)" = "$(printf 'latest\nstep-0000040\nstep-0000050\nstep-0000060')" ] ||
        fail "not the last 3 checkpoints are kept: $(ls parts$ranks/checkpoints)"
done

# Another number of ranks goes on too, and says that the bits will differ.
expect 0 fewer.log "$vasily" train tiny.yaml run.dir=parts2 --resume auto train.steps=62
contains fewer.log "saved by 2 ranks, going on with 1"
contains fewer.log "config: train.steps: 60 -> 62"

# From an older checkpoint by its path: what was after it is set aside, metrics go on from there.
expect 0 older.log "$vasily" train tiny.yaml run.dir=parts1 --resume parts1/checkpoints/step-0000040 --stop-after 45
[ -d parts1/checkpoints/step-0000060.set-aside ] || fail "step 60 was not set aside"
cmp <(metric parts1 step) <(seq 45) || fail "metrics.jsonl was not cut back to step 40"
cmp <(metric whole1 loss | head -45) <(metric parts1 loss) || fail "steps 41 to 45 are not what they were"

# Refusals.
expect 2 again.log "$vasily" train tiny.yaml run.dir=whole1
contains again.log "--resume auto"
expect 2 seed.log "$vasily" train tiny.yaml run.dir=whole1 --resume auto seed=8
contains seed.log "seed"

# Signals: TERM and USR1 save and ask to be queued again, USR2 saves and goes on, INT saves and stops.
"$vasily" train tiny.yaml run.dir=signals > signals.log 2>&1 &
pid=$!
until [ -s signals/metrics.jsonl ]; do sleep 0.05; kill -0 $pid || fail "training ended early"; done
kill -USR2 $pid
for _ in $(seq 100); do ls signals/checkpoints | grep -q step && break; sleep 0.05; done
kill -STOP $pid # it must not end meanwhile, and keeps the lock
expect 3 lock.log "$vasily" train tiny.yaml run.dir=signals --resume auto
contains lock.log "another vasily train (process $pid) is writing to this run"
expect 3 lock.log "$vasily" train tiny.yaml run.dir=signals --resume auto run.lock_seconds=1
contains lock.log "another vasily train (process $pid) is writing to this run; wait for it"
"$vasily" train tiny.yaml run.dir=signals --resume auto run.lock_seconds=300 > after.log 2>&1 &
waiter=$!
until grep -q "waiting up to 300 s for its end" after.log; do sleep 0.05; kill -0 $waiter || fail "nothing waits"; done
"$vasily" train tiny.yaml run.dir=signals --resume auto run.lock_seconds=300 > asked.log 2>&1 &
asked=$!
until grep -q "waiting up to 300 s for its end" asked.log; do sleep 0.05; kill -0 $asked || fail "nothing waits"; done
kill -TERM $asked
code=0
wait $asked || code=$?
[ $code = 75 ] || fail "TERM ends a wait for the lock with $code, not 75"
contains asked.log "a signal asks for the end"
kill -USR1 $pid
kill -CONT $pid
code=0
wait $pid || code=$?
[ $code = 75 ] || fail "USR1 ends with $code, not 75"
contains signals.log "checkpoint of step"
wait $waiter || fail "a start that has waited for the lock of the run ends with $?"
a=$(hashes whole1/checkpoints/step-0000060) b=$(hashes signals/checkpoints/step-0000060)
[ "$a" = "$b" ] || fail "a run stopped by USR1 and resumed is not the run without a stop"
cmp <(metric signals step) <(seq 60) || fail "steps are missing or doubled after signals"

# Through mpirun, which forwards USR1 to the ranks.
mpirun -n 2 "$vasily" train tiny.yaml run.dir=queued train.steps=2000 > queued.log 2>&1 &
pid=$!
until [ -s queued/metrics.jsonl ]; do sleep 0.05; kill -0 $pid || fail "training ended early"; done
kill -USR1 $pid
code=0
wait $pid || code=$?
[ $code = 75 ] || fail "USR1 to mpirun ends with $code, not 75"
expect 0 requeued.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=queued train.steps=2000 --resume auto --stop-after 60
a=$(hashes whole2/checkpoints/step-0000060) b=$(hashes queued/checkpoints/step-0000060)
[ "$a" = "$b" ] || fail "2 ranks stopped by USR1 and resumed are not 2 ranks without a stop"
