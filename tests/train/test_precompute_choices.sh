#!/bin/bash
# Precomputed data in half precision and without rows of padding give the losses of inline training, too; files that do
# not fit the config are refused, with what differs and the remedy.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
# shellcheck source=tests/train/precompute.sh
source "$here/precompute.sh"

train inline
precompute both.log $latents $text

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
refused "data.filter = watermark_max 0.5" "data.filter.where=[aspect < 2]"
refused "data.filter = watermark_max 0.5" "data.sources[0].where=[aspect < 2]"
refused "data.caption_language" "data.sources[0].language=ru, random"
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
