#!/bin/bash
# What is precomputed gives the losses of inline training: latents, text and both, on 1 and 2 ranks, with padding rows
# and without, in each storage type, and across resumes. Files come back after a stop; those that do not fit are refused.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

rm -rf shards
mkdir shards
"$make_test_shards" shards 4 24 16 mixed
steps=8
common=("train.steps=$steps" "optim.total_steps=$steps" checkpoint.every=4 data.text_dropout=0.3 data.max_bad_share=0.5
    'model.autoencoder={kind: kl, channels: 32, channel_mult: [1, 2], res_blocks: 1}' model.in_channels=4
    model.out_channels=8 model.max_tokens=12 model.text_encoder1.positions=16 data.tokenizer1.max_tokens=12
    data.tokenizer2.max_tokens=12 optim.max_lr=0.001)
latents=frozen.latents=precomputed text=frozen.text=precomputed

train() { # train RUN overrides...: 8 steps on one rank
    local run=$1
    shift
    expect 0 "$run.log" "$vasily" train tiny.yaml "${common[@]}" run.dir="$run" "$@"
}

same() { # same RUN OTHER [TOLERANCE]: every loss within 1e-6
    paste <(metric "$1" loss) <(metric "$2" loss) | awk -v limit="${3:-1e-6}" -v steps=$steps -v name="$2 and $1" '
        { d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "%s: worst difference of %d losses %.2g\n", name, n, worst
              if (n != steps || !(worst <= limit)) exit 1 }' || fail "the losses of $2 are not those of $1"
}

precompute() { # precompute LOG overrides...
    local log=$1
    shift
    expect 0 "$log" "$vasily" precompute tiny.yaml "${common[@]}" "$@"
}

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

# Half precision: inline rounds to it, too.
for type in f16 bf16; do
    train inline_$type frozen.dtype=$type
    precompute $type.log $latents $text frozen.dtype=$type --out $type
    train both_$type $latents $text frozen.dtype=$type frozen.path=$type
    same inline_$type both_$type
    cmp -s <(metric inline loss) <(metric inline_$type loss) && fail "$type does not round"
done
[ "$(stat -c %s f16/shapes/000000.text.h5)" -lt "$(stat -c %s shards/000000.text.h5)" ] || fail "f16 is not smaller"

# Rows of padding hidden.
train inline_valid model.text_rows=valid
! cmp -s <(metric inline loss) <(metric inline_valid loss) || fail "text_rows changes nothing"
precompute valid.log $text model.text_rows=valid --out valid
train text_valid $text model.text_rows=valid frozen.path=valid
same inline_valid text_valid
[ "$(stat -c %s valid/shapes/000000.text.h5)" -lt "$(stat -c %s shards/000000.text.h5)" ] || fail "valid rows are not fewer"
train padded_valid $text model.text_rows=valid # files with all rows serve, too
same inline_valid padded_valid

# Mistakes.
refused() { # refused "expected words" overrides...
    local words=$1
    shift
    rm -rf mistake
    expect "${code:-6}" mistake.log "$vasily" train tiny.yaml "${common[@]}" run.dir=mistake $latents $text "$@"
    contains mistake.log "$words"
}
refused "model.autoencoder" seed=8
contains mistake.log "vasily precompute CONFIG"
refused "model.text_encoder1" model.text_encoder1.heads=4
refused "data.filter = watermark_max 0.5" data.filter.watermark_max=0.4
contains mistake.log "watermark_max 0.4"
refused "data.caption_language" data.caption_language=en
refused "frozen.dtype = f32" frozen.dtype=bf16
refused "text_rows = valid" frozen.path=valid frozen.latents=inline
code=3 refused "000000.latents-16.h5, of another resolution than 32" train.resolution=32 data.filter.min_side=0
refused "data.tokenizer1 = xlmr" data.tokenizer1.style=mt5
cp shards/000001.text.h5 kept
truncate -s 20000 shards/000001.text.h5
code=3 refused "000001.text.h5"
precompute repaired.log $latents $text
contains repaired.log "is made anew"
cmp kept shards/000001.text.h5 || fail "a cut file was not repaired"
mv shards/000001.tar kept
"$make_test_shards" shards 4 24 16
mv kept shards/000001.tar
rm shards/*.idx
refused "is not of the same samples as shards/000000.tar"
refused "is not of the same samples as shards/000000.tar" frozen.text=inline
