#!/bin/bash
# vasily data stats: of shards and of a config, what it prints and writes, its mistakes.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

mkdir mixed
"$make_test_shards" mixed 3 100 16 mixed # every 7th sample has a watermark of 0.9, from the 4th on
expect 0 shards.log "$vasily" data stats 'mixed/*.tar' --filter 'watermark < 0.5' --filter 'caption_length >= 4' \
    --filter 'json.pwatermark < 0.05 or not has similarity' --json counts.json
marked=0
for n in $(seq 0 299); do [ $((n % 7)) = 3 ] && marked=$((marked + 1)); done
for text in "\"looked_at\": 300" "\"kept\": $((300 - marked))," "\"filtered\": $marked," \
    "{\"filter\": \"watermark < 0.5\", \"alone\": $marked, \"after\": $marked, \"missing\": 0}" \
    "{\"filter\": \"json.pwatermark < 0.05 or not has similarity\", \"alone\": 0, \"after\": 0, \"missing\": 0}" \
    "\"xx\": {\"all\": 300, \"kept\": $((300 - marked))}" "\"PNG\": $((300 - marked))"; do
    contains counts.json "$text"
done
contains shards.log "watermark < 0.5"
for threads in 1 5; do
    expect 0 again.log "$vasily" data stats 'mixed/*.tar' --filter 'watermark < 0.5' --filter 'caption_length >= 4' \
        --filter 'json.pwatermark < 0.05 or not has similarity' --json again.json --threads $threads
    cmp counts.json again.json || fail "$threads threads count something else"
done

# A config, with its own filters and those of the command line; a part of it; a shard that is not there.
expect 0 config.log "$vasily" data stats tiny.yaml data.filter.min_side=0 --json config.json --samples 50
contains config.json "\"looked_at\": 50"
expect 3 gone.log timeout 15 "$vasily" data stats mixed/000000.tar nowhere.tar mixed/*1.tar mixed
contains gone.log "broken_shard (number 1): nowhere.tar: "
[ "$(grep -o "nowhere.tar" gone.log | wc -l)" = 1 ] || fail "a missing shard is named more than once"
contains gone.log "mixed: not a regular file"
printf 'mixed/000000.tar\t100\nnowhere.tar\t100\n' > told.txt # whose samples are known without a look
expect 3 told.log timeout 15 "$vasily" data stats list:told.txt
contains told.log "cannot open"
contains gone.log "broken_shard"

# A field that no sample has is named; one that some have is not.
expect 0 absent.log "$vasily" data stats 'mixed/*.tar' --filter 'json.watermrk < 0.5 or watermark < 0.5' \
    --filter 'json.pwatermark == high' --filter 'json.pwatermark < 2'
contains absent.log "no sample has json.watermrk as it is asked for by json.watermrk < 0.5 or watermark < 0.5; is it misspelt"
contains absent.log "no sample has json.pwatermark as it is asked for by json.pwatermark == high"
[ "$(grep -c "no sample has" absent.log)" = 2 ] || fail "fields that samples have are said to be absent"
expect 0 twice.log "$vasily" data stats mixed/000000.tar 'mixed/*.tar'
contains twice.log "1 of 4 shards are named again after they were named before, such as mixed/000000.tar"
# Keys of the config beside shards.
expect 2 pipe.log "$vasily" data stats 'pipe:cat mixed/000001.tar' data.read.allow_pip=true
contains pipe.log "did you mean allow_pipe"
expect 3 pipe.log "$vasily" data stats 'pipe:cat mixed/000001.tar'
contains pipe.log "data.read.allow_pipe"
expect 0 pipe.log "$vasily" data stats 'pipe:cat mixed/000001.tar' data.read.allow_pipe=true data.filter.watermark_max=0.5
grep -Eq '^shards +1 +100 +100 +8[5-7] ' pipe.log || fail "a pipe's samples: $(cat pipe.log)"
cp mixed/000000.tar data.x=1.tar
expect 0 odd.log "$vasily" data stats ./data.x=1.tar
expect 2 none.log "$vasily" data stats data.read.retries=1
contains none.log "has no shards"
expect 0 folder.log "$vasily" data stats tiny.yaml --samples 5 --json fresh/folder/x.json
[ -s fresh/folder/x.json ] || fail "data stats --json did not make the folder"

expect 2 mistake.log "$vasily" data stats 'mixed/*.tar' --filter 'watermrk < 0.5'
contains mistake.log "--filter 'watermrk < 0.5': column 1: \"watermrk\" is not a field; did you mean watermark?"
expect 2 mistake.log "$vasily" data stats tiny.yaml 'data.filter.where=[side > 1, aspect <]'
contains mistake.log "data.filter.where[1]: column 9: expected a value, not the end"
expect 2 mistake.log "$vasily" data stats
contains mistake.log "a config or shards are missing"
