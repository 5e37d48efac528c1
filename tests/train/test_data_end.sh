#!/bin/bash
# Sources that do not repeat: training ends with them, saved, in the same step on any number of ranks; going on finds
# nothing left. And what metrics.jsonl tells about the data.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

once='data.sources=[{name: shapes, shards: ["shards/*.tar"], repeat: false}]'
expect 0 one.log "$vasily" train tiny.yaml "$once" run.dir=one
contains one.log "the sources of data have ended before train.steps"
steps=$(metric one step | tail -1)
{ [ "$steps" -ge 8 ] && [ "$steps" -le 12 ]; } || fail "96 samples gave $steps steps of 8"
[ -d "one/checkpoints/step-$(printf %07d "$steps")" ] || fail "the end is not saved"

expect 0 two.log mpirun -n 2 "$vasily" train tiny.yaml "$once" run.dir=two
contains two.log "the sources of data have ended"
[ "$(metric two step | tail -1)" = "$steps" ] || fail "2 ranks ended after $(metric two step | tail -1) steps, one after $steps"

expect 0 again.log mpirun -n 2 "$vasily" train tiny.yaml "$once" run.dir=two --resume auto
contains again.log "the sources of data have ended"
[ "$(metric two step | tail -1)" = "$steps" ] || fail "a run whose data had ended went on"
expect 0 on.log "$vasily" train tiny.yaml run.dir=two train.steps=20 --resume auto # now it repeats
[ "$(metric two step | tail -1)" = 20 ] || fail "with a source that repeats the run does not go on"

expect 2 none.log mpirun -n 2 "$vasily" train tiny.yaml "$once" run.dir=none train.global_batch=128
contains none.log "do not reach for one step"
contains none.log "data.sources[].repeat"

tail -1 one/metrics.jsonl > last
for key in '"data": {' '"samples_per_second": ' '"bytes_per_second": ' '"threads": {"read": ' '"decode": ' '"passed_over": {' \
    '"sources": {"shapes": {"accepted": '; do
    grep -qF "$key" last || fail "metrics.jsonl has no $key: $(cat last)"
done

# A signal while data is waited for: saved after the last whole step, on all ranks. The pipe never says anything.
mkfifo never
"$vasily" data index 'shards/*.tar' --list counted.txt > index.log 2>&1 || fail "no index: $(cat index.log)"
grep 000003 counted.txt | sed "s|^[^\t]*|pipe:cat $PWD/never|" > stalled.txt
mpirun -n 2 "$vasily" train tiny.yaml run.dir=stuck data.read.allow_pipe=true data.read.stall_seconds=100 \
    'data.sources=[{name: shapes, shards: ["shards/*.tar"], weight: 49}, {name: never, shards: ["list:stalled.txt"]}]' \
    > stuck.log 2>&1 &
job=$!
for _ in $(seq 300); do
    grep -q "step 1/" stuck.log && [ "$(metric stuck step | tail -1)" = "$(sleep 1; metric stuck step | tail -1)" ] && break
    sleep 0.1
done
pkill -USR1 -f "train tiny.yaml run.dir=stuck" || fail "the waiting run has gone: $(cat stuck.log)"
code=0
wait "$job" || code=$?
[ "$code" = 75 ] || fail "a run that waited for data ended with $code, not 75: $(cat stuck.log)"
contains stuck.log "stopped by a signal"
steps=$(metric stuck step | tail -1)
[ "$steps" -ge 1 ] || fail "it waited before the first step"
[ -d "stuck/checkpoints/step-$(printf %07d "$steps")" ] || fail "step $steps is not saved"
