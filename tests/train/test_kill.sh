#!/bin/bash
# kill -9 at random moments never leaves a run that cannot resume. 100 times, or 1,000 with VASILY_TEST_LONG=1 (or as often
# as VASILY_KILLS says). Every other kill waits for the first step, so that savings are hit and not only the start; two
# of three starts write checkpoints beside training, the third while it waits.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
kills=${VASILY_KILLS:-$([ -n "${VASILY_TEST_LONG-}" ] && echo 1000 || echo 100)}

RANDOM=${SEED:-$$}
echo "SEED=${SEED:-$$}"
for i in $(seq "$kills"); do
    "$vasily" train tiny.yaml run.dir=run train.steps=1000000 checkpoint.every=1 checkpoint.keep=2 --resume auto \
        checkpoint.async=$([ $((i % 3)) = 0 ] && echo false || echo true) > kill.log 2>&1 &
    pid=$!
    if [ $((i % 2)) = 0 ]; then
        before=$(stat -c %s run/metrics.jsonl 2> kill9 || echo 0)
        until [ "$(stat -c %s run/metrics.jsonl 2> kill9 || echo 0)" -gt "$before" ]; do
            kill -0 $pid 2> kill9 || fail "kill $i: it had ended by itself"
            sleep 0.01
        done
    fi
    sleep "0.$(printf %03d $((RANDOM % 500 + 20)))"
    kill -9 $pid 2> kill9 || { wait $pid || fail "kill $i: it had ended by itself"; }
    wait $pid 2> kill9 || true
done
steps=$(ls run/checkpoints | sed -n 's/^step-0*\([0-9]*\)$/\1/p' | sort -n | tail -1)
echo "after $kills kills: step ${steps:-0}"
[ "${steps:-0}" -gt 0 ] || fail "no checkpoint was made in $kills starts"
last=$((steps + 5))
expect 0 end.log "$vasily" train tiny.yaml run.dir=run train.steps=$last checkpoint.every=1 checkpoint.keep=2 --resume auto
cmp <(metric run step) <(seq $last) || fail "steps are missing or doubled in metrics.jsonl"
! ls run/checkpoints | grep -q tmp || fail "temporary folders were left: $(ls run/checkpoints)"
expect 0 reference.log "$vasily" train tiny.yaml run.dir=reference train.steps=$last checkpoint.every=0
cmp <(metric reference loss) <(metric run loss) || fail "the run is not the one that nobody killed"
a=$(hashes reference/checkpoints/latest) b=$(hashes run/checkpoints/latest)
[ -n "$a" ] && [ "$a" = "$b" ] || fail "the run that was killed has other bits than the one that nobody killed"
echo "step $last has the bits of a run that nobody killed"
