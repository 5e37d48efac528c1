#!/bin/bash
# What is precomputed gives the losses of inline training: latents, text and both, on 1 and 2 ranks and across resumes.
# Files come back after a stop.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
# shellcheck source=tests/train/precompute.sh
source "$here/precompute.sh"

train inline
expect 3 missing.log "$vasily" train tiny.yaml "${common[@]}" run.dir=missing $latents
contains missing.log "shards/000000.latents-16.h5"
contains missing.log "vasily precompute CONFIG"

# Each on its own, then together, without the shards themselves.
precompute text.log $text
[ ! -e shards/000000.latents-16.h5 ] || fail "latents were not asked for"
precompute both.log $latents $text
contains both.log "accepted: 74; passed over: bad_png 8, watermark 14"
train only_text $text
train only_latents $latents
mkdir gone
mv shards/*.tar shards/*.idx gone
train both $latents $text
"$vasily" data order tiny.yaml "${common[@]}" $latents $text \
    'data.sources=[{name: shapes, shards: ["shards/*.tar"]}]' > order.gone 2> glob.log || fail "no order without shards"
mv gone/* shards
"$vasily" data order tiny.yaml "${common[@]}" 2> whole.log > order.whole
cmp order.whole order.gone || fail "precomputed data come in another order"
for run in only_text only_latents both; do same inline $run; done
[ "$(metric both allocations | tail -n +2 | sort -u)" = 0 ] || fail "steps allocate"
[ "$(metric both rejected | tail -1)" -gt 10 ] || fail "nothing was passed over"
expect 0 two.log mpirun -n 2 "$vasily" train tiny.yaml "${common[@]}" run.dir=two train.micro_batch=2
expect 0 two_both.log mpirun -n 2 "$vasily" train tiny.yaml "${common[@]}" run.dir=two_both train.micro_batch=2 \
    $latents $text
same two two_both

# Weights that training does not need may be elsewhere; where all are there, previews are drawn as ever.
drawing=(preview.every=8 'preview.prompts=[red circle, blue cross]' preview.steps=4)
train without $text "${drawing[@]}" model.text_encoder1.weights=elsewhere.safetensors
same inline without
contains without.log "no previews: elsewhere.safetensors is not there"
train drawn "${drawing[@]}"
train drawn_both $latents $text "${drawing[@]}"
cmp drawn/previews/step-0000008.png drawn_both/previews/step-0000008.png || fail "previews differ"

# Resumes go across, both ways.
train there --stop-after 4
train there --resume auto $latents $text
same inline there
train back --stop-after 4 $latents $text
train back --resume auto
same inline back

# Two ranks write the same bytes, elsewhere; what is there is passed over; what a stop leaves goes.
expect 0 ranks.log mpirun -n 2 "$vasily" precompute tiny.yaml "${common[@]}" $latents $text --out apart --pictures 8
for name in 000000 000001 000002 000003; do
    for kind in latents-16 text; do
        cmp shards/$name.$kind.h5 apart/shapes/$name.$kind.h5 || fail "two ranks write another $name.$kind.h5"
    done
done
rm apart/shapes/000002.text.h5
touch apart/shapes/000002.text.h5.tmp-1 -d '2020-01-01' apart/shapes/000003.latents-16.h5
precompute again.log --out apart # both where the config says neither
contains again.log "4 shards, of which 3 are precomputed already"
cmp shards/000002.text.h5 apart/shapes/000002.text.h5 || fail "the file made again is another one"
[ ! -e apart/shapes/000002.text.h5.tmp-1 ] || fail "an unfinished file was left"
[ "$(stat -c %Y apart/shapes/000003.latents-16.h5)" = "$(date -d 2020-01-01 +%s)" ] || fail "a file that fits was made anew"
train apart $latents $text frozen.path=apart
same inline apart
