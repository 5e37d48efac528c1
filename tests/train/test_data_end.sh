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
for key in '"data":{' '"samples_per_second":' '"bytes_per_second":' '"threads":{"read":' '"decode":' '"passed_over":{' \
    '"sources":{"shapes":{"accepted":'; do
    grep -qF "$key" last || fail "metrics.jsonl has no $key: $(cat last)"
done
