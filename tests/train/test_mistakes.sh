#!/bin/bash
# Wrong configs and command lines: exit code 2, and a message that names the key and what would be right.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

refused() { # refused "expected words" overrides...
    local words=$1
    shift
    expect 2 mistake.log "$vasily" train tiny.yaml "$@"
    contains mistake.log "$words"
    [ ! -e run ] || fail "a refused config made a run folder: $*"
}

# What takes neither data nor ranks to see, `vasily config` refuses in the same words: refused_unread "words" overrides...
refused_unread() {
    refused "$@"
    expect 2 mistake.log "$vasily" config tiny.yaml "${@:2}"
    contains mistake.log "$1"
}

refused "train.global_batch" train.global_batch=eight
refused_unread "train.micro_batch" train.micro_batch=3
refused_unread "2 or 4" train.micro_batch=3
refused "train.resolution" train.resolution=17
refused "model.channels" model.channels=40
refused "model.head_channels" model.head_channels=24
refused "model.in_channels" model.in_channels=11
refused "checkpoint.keep" checkpoint.keep=0
refused "did you mean every" checkpoint.evry=5
refused "data.tokenizer1.model" data.tokenizer1.model=missing.model
refused_unread "data.tokenizer1.max_tokens" data.tokenizer1.max_tokens=9
refused "model.text_encoder2.vocab" model.text_encoder2.vocab=10
refused_unread "data.sources[0].shards: shards/{00..0x}.tar: {00..0x} is no range" \
    'data.sources=[{name: a, shards: ["shards/{00..0x}.tar"]}]'
refused_unread "data.tokenizer2.model: is empty" 'data.tokenizer2.model=""'
refused_unread "htp:// is not known" 'data.sources=[{name: a, shards: [shards/000000.tar, "htp://h/a.tar"]}]'
refused_unread "did you mean watermark" "data.filter.where=[watermrk < 0.5]"
refused_unread "data.caption_language" data.caption_language=rnadom
refused_unread "data.augment.crop" frozen.latents=precomputed data.augment.crop=random
refused_unread "frozen.latents" frozen.latents=precomputed data.augment.flip=0.5
expect 2 plan.log "$vasily" plan tiny.yaml "data.filter.where=[watermrk < 0.5]"
contains plan.log "data.filter.where[0]"
expect 0 plan.log "$vasily" plan tiny.yaml train.micro_batch=3 --cluster h200 --per-rank 6 # says the batch itself

# A run that is only measured names no data; what else it says of them counts.
none=(data.sources=[] 'data.tokenizer1.model=""')
expect 0 config.log "$vasily" config tiny.yaml "${none[@]}"
contains config.log "data.sources is empty: this config can be planned and measured, not trained"
expect 0 plan.log "$vasily" plan tiny.yaml "${none[@]}"
expect 2 config.log "$vasily" config tiny.yaml "${none[@]}" "data.filter.where=[watermrk < 0.5]"
contains config.log "data.filter.where[0]"
refused "no source of data" "${none[@]}"

refused "preview.steps" preview.steps=2000
refused "is one argument too many" stray
refused "did you mean --resume" --resum auto

expect 2 ranks.log mpirun -n 3 "$vasily" train tiny.yaml
contains ranks.log "train.global_batch"
contains ranks.log "3 ranks"
expect 2 lanes.log mpirun -n 2 "$vasily" train tiny.yaml data.lanes=3
contains lanes.log "data.lanes"
expect 2 order.log "$vasily" data order tiny.yaml --ranks 3
expect 2 command.log "$vasily" trian tiny.yaml
contains command.log "vasily train"
expect 2 none.log "$vasily"

sed 's/^  steps: 60/  stps: 60/' tiny.yaml > wrong.yaml
expect 2 wrong.log "$vasily" train wrong.yaml
contains wrong.log "wrong.yaml:5"
contains wrong.log "steps"
expect 3 absent.log "$vasily" train absent.yaml
contains absent.log "absent.yaml"
expect 3 shards.log "$vasily" train tiny.yaml 'data.sources=[{name: gone, shards: [gone.tar]}]'
contains shards.log "gone.tar"

# Captions that are not UTF-8, and files that are no config: seen before anything is opened.
printf 'en\tcat\r\n\r\nbad\377\r\n' > captions.txt
expect 3 captions.log "$vasily" sample run --prompts captions.txt
contains captions.log "captions.txt:3: the caption is not valid UTF-8"
expect 2 captions.log "$vasily" sample run --prompt cat --prompt $'bad\377'
contains captions.log "--prompt number 2 is not valid UTF-8"
printf '\211HDF\r\n\032\n\0\0\0' > ema.h5
for command in "sample ema.h5 --prompt cat" "validate ema.h5"; do
    # shellcheck disable=SC2086
    expect 2 weights.log "$vasily" $command
    contains weights.log "ema.h5: is no text, and so no config; name a run, the folder of a checkpoint, or a config"
done

for command in train precompute sample plan "bench step" "bench data" "probe unet" "data order" "data stats" export config; do
    expect 0 help.log "$vasily" $command --help
    contains help.log "usage: vasily $command"
    [ "$(grep -c "^  --help " help.log)" = 1 ] || fail "$command: --help is not listed once"
done
expect 0 help.log "$vasily" help
expect 0 help.log "$vasily" --help
expect 0 version.log "$vasily" --version
for library in HDF5 libarchive libpng SentencePiece oneDNN; do contains version.log "$library"; done
