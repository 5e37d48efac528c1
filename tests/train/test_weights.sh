#!/bin/bash
# Weight files in and out of a run: export, inspect, import, init.from, frozen weights, and files that must not get in.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

expect 0 train.log "$vasily" train tiny.yaml train.steps=4 preview.every=0
expect 0 export.log "$vasily" export run --weights --out weights.safetensors
expect 0 export.log "$vasily" export run --ema --out ema.safetensors
! cmp -s weights.safetensors ema.safetensors || fail "weights and moving average are the same"

# What a checkpoint holds.
expect 0 inspect.txt "$vasily" inspect run
contains inspect.txt "checkpoint of step 4"
contains inspect.txt "input_blocks.0.0.weight"
contains inspect.txt "0 NaN, 0 infinite"
parameters=$(sed -n 's/.* tensors, \([0-9]*\) parameters.*/\1/p' inspect.txt)
expect 0 inspect.json "$vasily" inspect weights.safetensors --json
contains inspect.json "\"parameters\": $parameters, \"bytes\": $((4 * parameters))"
contains inspect.json '"metadata": {"format": "pt"}'
expect 0 adam.txt "$vasily" inspect run/checkpoints/latest --part adam_m --no-stats
! grep -q NaN adam.txt || fail "statistics that were not asked for"
expect 2 inspect.log "$vasily" inspect
expect 3 inspect.log "$vasily" inspect nothing.pt

# An export is a published file: imported again it is the same to the bit, and other types are as small as they say.
expect 0 import.log "$vasily" import unet weights.safetensors tiny.yaml --out again.safetensors
"$vasily" inspect again.safetensors --json > a.json
sed 's/weights.safetensors/again.safetensors/' inspect.json > b.json
cmp_tensors() { # the same tensors with the same statistics, in any order
    grep -o '{"name"[^}]*}' "$1" | sort > "$1.sorted"
    grep -o '{"name"[^}]*}' "$2" | sort > "$2.sorted"
    cmp "$1.sorted" "$2.sorted"
}
cmp_tensors a.json b.json || fail "import changed an exported file"
expect 0 import.log "$vasily" import unet weights.safetensors tiny.yaml --dtype bf16 --out half.safetensors
[ "$(stat -c %s half.safetensors)" -lt $((3 * parameters)) ] || fail "bf16 is not smaller than f32"

# Every name that does not fit is told, and nothing is written.
expect 6 import.log "$vasily" import unet weights.safetensors tiny.yaml model.channels=64 --out no.safetensors
contains import.log "another shape or type: input_blocks.0.0.weight (32,12,3,3), wanted (64,12,3,3)"
expect 6 import.log "$vasily" import unet weights.safetensors tiny.yaml model.res_blocks=2 --out no.safetensors
contains import.log "missing: "
expect 6 import.log "$vasily" import unet weights.safetensors tiny.yaml 'model.attention_levels=[]' --out no.safetensors
contains import.log "unknown: "
contains import.log "vasily import KIND FILE CONFIG"
expect 6 import.log "$vasily" import unet weights.safetensors --out no.safetensors
expect 2 import.log "$vasily" import clip weights.safetensors --out no.safetensors
contains import.log "unet, vae, xlmr-clip and mt5 are"
expect 2 import.log "$vasily" import unet weights.safetensors
expect 2 import.log "$vasily" import vae weights.safetensors tiny.yaml --out no.safetensors
contains import.log "this autoencoder has no weights"
[ ! -e no.safetensors ] || fail "a file that does not fit was imported"

# A new run begins with given weights: with a learning rate of nothing they stay as they are.
begin() { # begin RUN key=value...: one step from there, its weights in RUN.safetensors
    local run=$1
    shift
    expect 0 init.log "$vasily" train tiny.yaml run.dir="$run" train.steps=1 optim.max_lr=1e-30 "$@"
    contains init.log "the weights are those of"
    expect 0 export.log "$vasily" export "$run" --weights --out "$run.safetensors"
}
begin from_file init.from=weights.safetensors seed=8
cmp from_file.safetensors weights.safetensors || fail "init.from a file: other weights"
begin from_run init.from=run init.ema=false seed=8
cmp from_run.safetensors weights.safetensors || fail "init.from a run: other weights"
begin from_average init.from=run/checkpoints/latest seed=8
cmp from_average.safetensors ema.safetensors || fail "init.from a checkpoint's moving average: other weights"
expect 6 init.log "$vasily" train tiny.yaml run.dir=wrong model.channels=64 init.from=weights.safetensors
contains init.log "init.from: "
contains init.log "time_embed.0.weight (128,32), wanted (256,64)"
expect 3 init.log "$vasily" train tiny.yaml run.dir=absent init.from=absent.safetensors
contains init.log "absent.safetensors"

# One file of a checkpoint: as sound as the manifest beside it says, and no moments.
begin from_array init.from=run/checkpoints/latest/ema.h5 seed=8
cmp from_array.safetensors ema.safetensors || fail "init.from ema.h5: other weights"
for moments in adam_m adam_v; do
    expect 2 init.log "$vasily" train tiny.yaml run.dir=wrong init.from=run/checkpoints/latest/$moments.h5
    contains init.log "$moments.h5: these are moments of Adam"
done
cp -rL run/checkpoints/latest damaged
size=$(stat -c %s damaged/ema.h5)
byte=$(od -An -tu1 -j $((size / 2)) -N 1 damaged/ema.h5)
# shellcheck disable=SC2059
printf "\\x$(printf %02x $((255 - byte)))" | dd of=damaged/ema.h5 bs=1 seek=$((size / 2)) conv=notrunc status=none
for from in damaged/ema.h5 damaged; do
    expect 3 init.log "$vasily" train tiny.yaml run.dir=wrong init.from=$from
    contains init.log "ema.h5: its contents have changed"
done
(cd damaged && expect 3 ../init.log "$vasily" train ../tiny.yaml run.dir=../wrong init.from=ema.h5 \
    'data.sources=[{name: shapes, shards: ["../shards/{000000..000003}.tar"]}]' \
    data.tokenizer1.model=../tokenizer.model data.tokenizer2.model=../tokenizer.model)
contains init.log "ema.h5: its contents have changed"
# Links are followed; a manifest of another program says nothing of our file.
ln -s run/checkpoints/latest/adam_m.h5 linked.h5
expect 2 init.log "$vasily" train tiny.yaml run.dir=wrong init.from=linked.h5
contains init.log "adam_m.h5: these are moments of Adam"
ln -s damaged/ema.h5 linked_ema.h5
expect 3 init.log "$vasily" train tiny.yaml run.dir=wrong init.from=linked_ema.h5
contains init.log "ema.h5: its contents have changed"
mkdir other
cp run/checkpoints/latest/weights.h5 other
echo '{"name": "an app"}' > other/manifest.json
expect 0 init.log "$vasily" train tiny.yaml run.dir=beside_other init.from=other/weights.h5 train.steps=1
contains init.log "weights.h5 is not checked, for the manifest.json beside it is no checkpoint's, or damaged: "
sed 's/"format": *[0-9]*/"format": 1000/' run/checkpoints/latest/manifest.json > other/manifest.json
grep -q '"format": 1000' other/manifest.json || fail "the manifest has no format"
expect 2 init.log "$vasily" train tiny.yaml run.dir=newer init.from=other/weights.h5 train.steps=1
contains init.log "format 1000, this program reads up to"
cp run/checkpoints/latest/manifest.json other
mv other/weights.h5 other/ema.h5
sed -i 's/"ema.h5"/"else.h5"/' other/manifest.json
expect 0 init.log "$vasily" train tiny.yaml run.dir=unlisted init.from=other/ema.h5 train.steps=1
contains init.log "ema.h5 is not checked, for "
begin from_other init.from=damaged/weights.h5 seed=8
cmp from_other.safetensors weights.safetensors || fail "init.from weights.h5: other weights"

# Frozen weights: what a file holds enters the state's fingerprints, and resume names a difference.
contains run/checkpoints/latest/state.json '"text_encoder1"'
expect 6 frozen.log "$vasily" train tiny.yaml run.dir=wrong model.text_encoder1.weights=weights.safetensors
contains frozen.log "model.text_encoder1.weights: "
contains frozen.log "transformer.embeddings.word_embeddings.weight"
expect 0 resume.log "$vasily" train tiny.yaml train.steps=5 --resume auto
! grep -q "has other weights" resume.log || fail "the same frozen weights are said to differ"
expect 0 resume.log "$vasily" train tiny.yaml train.steps=6 --resume auto model.text_encoder1.feed_forward=64
contains resume.log "model.text_encoder1 has other weights than so far"

# A pickle that wants to run a command: refused, nothing runs, in whatever disguise.
legacy() { # legacy PICKLE: a file of an old torch.save around it
    printf '\200\002\212\012\154\374\234\106\371\040\152\250\120\031.\200\002M\351\003.\200\002}X\015\000\000\000little_endian\210s.'
    printf "$1"
    printf '\200\002].'
}
legacy '\200\002cposix\nsystem\nX\014\000\000\000touch marker\205R.' > evil.pt
for command in "inspect evil.pt" "import unet evil.pt tiny.yaml --out no.safetensors" \
    "import vae evil.pt --out no.safetensors" "train tiny.yaml run.dir=evil init.from=evil.pt" \
    "train tiny.yaml run.dir=evil model.text_encoder2.weights=evil.pt"; do
    # shellcheck disable=SC2086
    expect 3 evil.log "$vasily" $command
    contains evil.log "posix.system"
done
[ ! -e marker ] && [ ! -e no.safetensors ] || fail "something of a pickle was executed"

# A header of 2^60 bytes, and a file cut short.
printf '\000\000\000\000\000\000\000\020{}' > huge.safetensors
expect 3 huge.log "$vasily" inspect huge.safetensors
contains huge.log "1152921504606846976 bytes"
head -c 5000 weights.safetensors > short.safetensors
expect 3 short.log "$vasily" import unet short.safetensors tiny.yaml --out no.safetensors
contains short.log "complete"

# Names as torch.compile leaves them: the header of the export with a prefix before every name.
old=$(od -An -t u8 -N 8 weights.safetensors | tr -d ' ')
dd if=weights.safetensors bs=1 skip=8 count="$old" status=none | sed 's/"\([^"]*\)": {"dtype"/"_orig_mod.\1": {"dtype"/g' > header
new=$(stat -c %s header)
{
    for shift in 0 8 16 24 32 40 48 56; do
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $(((new >> shift) & 255)))"
    done
    cat header
    tail -c +$((old + 9)) weights.safetensors
} > compiled.safetensors
grep -q _orig_mod header || fail "no name was changed"
expect 0 compiled.log "$vasily" import unet compiled.safetensors tiny.yaml --out plain.safetensors
contains compiled.log "_orig_mod."
cmp plain.safetensors again.safetensors || fail "the prefix of torch.compile changes what is imported"

# A pipe in place of a file is refused, not waited for.
mkdir pipe
mkfifo pipe/part.safetensors
printf '{"weight_map":{"a":"part.safetensors"}}' > pipe/model.safetensors.index.json
expect 3 pipe.log timeout 20 "$vasily" inspect pipe
contains pipe.log "not a regular file"
