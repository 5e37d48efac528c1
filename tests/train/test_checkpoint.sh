#!/bin/bash
# Checkpoints as one file an array and in shares, written beside training and not: the same bits, read by every command,
# converted, verified, pruned. $3 is rehash.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
rehash=$(readlink -f "$3")
sed -i 's/every: 10/every: 5/; s/keep: 3/keep: 2/' tiny.yaml

# ---- beside training or not, in shares or not ----
for async in true false; do
    expect 0 one-$async.log "$vasily" train tiny.yaml run.dir=one-$async checkpoint.async=$async --stop-after 10
    for shard in none all; do
        expect 0 two-$shard-$async.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=two-$shard-$async \
            checkpoint.async=$async parallel.shard=$shard --stop-after 10
    done
done
contains one-true.log "training stood still for"
contains one-true/events.jsonl '"kind": "checkpoint"'
for step in 0000005 0000010; do # the first while training went on
    [ "$(hashes one-true/checkpoints/step-$step)" = "$(hashes one-false/checkpoints/step-$step)" ] ||
        fail "the checkpoint of step $step that was written beside training is another"
done
[ "$(hashes two-all-true/checkpoints/step-0000005)" = "$(hashes two-all-false/checkpoints/step-0000005)" ] ||
    fail "the shares of step 5 that were written beside training are others"
want=$(hashes two-none-true/checkpoints/step-0000010)
[ "$(wc -l <<< "$want")" = 4 ] || fail "not four arrays: $want"
for run in two-none-false two-all-true two-all-false; do
    [ "$(hashes $run/checkpoints/step-0000010)" = "$want" ] || fail "$run has other bits than two-none-true"
done
one=one-true/checkpoints/step-0000010 two=two-all-true/checkpoints/step-0000010
grep -q '"format": 1' $one/manifest.json || fail "a checkpoint of one rank is not of format 1"
grep -q '"format": 2' $two/manifest.json || fail "a checkpoint in shares is not of format 2"
[ "$(ls $two)" = "$(printf '%s\n' adam_m.shares.json adam_v.shares.json ema.shares.json manifest.json \
    share-0000-of-0002.h5 share-0001-of-0002.h5 state.json weights.shares.json)" ] || fail "files of shares: $(ls $two)"
sizes=$(stat -c %s $two/share-*.h5 | sort -u | wc -l)
[ "$sizes" = 1 ] || fail "the two shares are not equally large: $(stat -c %s $two/share-*.h5)"

# ---- conversions ----
expect 0 whole.log "$vasily" checkpoint convert $two whole
expect 0 three.log "$vasily" checkpoint convert whole three --to shares --shares 3
expect 0 back.log "$vasily" checkpoint convert three back
cmp two-all-true/checkpoints/step-0000010/state.json back/state.json || fail "state.json is not the same"
for file in weights ema adam_m adam_v; do cmp whole/$file.h5 back/$file.h5 || fail "$file is not the same after all"; done
expect 0 copy.log "$vasily" checkpoint convert $one copy
for file in weights ema adam_m adam_v; do cmp $one/$file.h5 copy/$file.h5 || fail "$file is not copied to the byte"; done
expect 0 light.log "$vasily" checkpoint convert $two light --without-optimizer
[ "$(ls light)" = "$(printf 'ema.h5\nmanifest.json\nstate.json\nweights.h5')" ] || fail "light has $(ls light)"
expect 3 light-resume.log "$vasily" train tiny.yaml run.dir=light-run --resume light
contains light-resume.log "init.from"
expect 2 again.log "$vasily" checkpoint convert $one whole
contains again.log "exists already"

# ---- every command reads shares ----
for part in weights ema adam_m adam_v; do
    for from in $two whole three; do
        "$vasily" inspect "$from" --part $part 2> inspect.log | grep -v '^[a-z0-9/-]*[/.].*: HDF5' | sort > "inspect-${from##*/}"
    done
    cmp inspect-step-0000010 inspect-whole || fail "inspect shows another $part in shares"
    cmp inspect-step-0000010 inspect-three || fail "inspect shows another $part in three shares"
done
for from in $two whole three light; do
    expect 0 export.log "$vasily" export "$from" --out "${from##*/}.safetensors"
done
for other in whole three light; do
    # Tensors may come in another order: compared by their names.
    cmp <("$vasily" inspect $other.safetensors 2> x.log | grep -v ': safetensors' | sort) \
        <("$vasily" inspect step-0000010.safetensors 2> x.log | grep -v ': safetensors' | sort) || fail "$other exports other weights"
done
for from in $two whole; do
    expect 0 sample.log "$vasily" sample "$from" --prompt "red circle" --steps 2 --out "${from##*/}.png" --device cpu \
        data.tokenizer1.model=tokenizer.model data.tokenizer2.model=tokenizer.model
    expect 0 begin.log "$vasily" train tiny.yaml run.dir="begin-${from##*/}" init.from="$from" --stop-after 2
done
[ "$(metric begin-whole loss)" = "$(metric begin-step-0000010 loss)" ] || fail "init.from begins with other weights"

# ---- any of them goes on, on any number of ranks ----
expect 0 go-two.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=two-none-true --resume auto --stop-after 12
for from in whole three; do
    expect 0 go-$from.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=go-$from --resume $from --stop-after 12
    [ "$(hashes go-$from/checkpoints/step-0000012)" = "$(hashes two-none-true/checkpoints/step-0000012)" ] ||
        fail "the run goes on from $from with other bits"
done
expect 0 go-one.log "$vasily" train tiny.yaml run.dir=go-one --resume $two --stop-after 12
paste <(metric two-none-true loss | tail -2) <(metric go-one loss) | awk '
    { d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > 1e-5) bad = 1 } END { exit bad || NR != 2 }' ||
    fail "one rank goes on from shares with other losses"

# ---- earlier versions wrote less: no guard, no fingerprints, no micro-batch, a config without today's sections ----
cp -a $one old
sed -i -E 's/"micro_batch": [0-9]+, //; s/"frozen": \{[^}]*\}, //; s/"guard": \{[^}]*\}, //
    s/\\n/\x01/g; s/\x01(guard|validation|inpainting|init):(\x01 +[^\x01]*)*//g; s/\x01  lock_seconds: 0//
    s/\x01/\\n/g' old/state.json
for key in '"micro_batch' '"frozen' guard: validation: inpainting: '\\ninit' lock_seconds; do
    ! grep -F -- "$key" old/state.json || fail "$key still is in old/state.json"
done
expect 0 rehash.log "$rehash" old
expect 0 old.log "$vasily" checkpoint verify old
for from in $one old; do
    expect 0 old.log "$vasily" train tiny.yaml run.dir="from-${from##*/}" --resume "$from" --stop-after 15
done
[ "$(hashes from-old/checkpoints/step-0000015)" = "$(hashes from-step-0000010/checkpoints/step-0000015)" ] ||
    fail "a checkpoint of an earlier version is not gone on from"
expect 0 old.log "$vasily" sample old --prompt a --steps 2 --out old.png
rm -rf old && cp -a $one old # pictures keep the name
expect 0 new.log "$vasily" sample old --prompt a --steps 2 --out new.png
cmp old.png new.png || fail "a checkpoint of an earlier version draws another picture"

# ---- what is kept ----
expect 0 keep.log "$vasily" train tiny.yaml run.dir=keep checkpoint.every=2 checkpoint.permanent_every=8 --stop-after 20
kept() { [ "$(ls keep/checkpoints | grep -o 'step-.*' | sed 's/step-0*//' | xargs)" = "$1" ] || fail "kept: $(ls keep/checkpoints | xargs), not $1"; }
kept "8 16 18 20"
expect 0 list.log "$vasily" checkpoint list keep
[ "$(grep -c 'one file an array' list.log)" = 4 ] || fail "not four checkpoints are listed"
expect 0 dry.log "$vasily" checkpoint prune keep --keep 1 --permanent-every 0 --dry-run
[ "$(grep -c 'would be removed' dry.log)" = 3 ] || fail "three would be removed"
kept "8 16 18 20"
expect 0 prune.log "$vasily" checkpoint prune keep --keep 1
contains prune.log "kept: 8 16 20"
kept "8 16 20"
expect 2 none.log "$vasily" checkpoint prune keep --keep 0
expect 0 verify.log "$vasily" checkpoint verify keep
[ "$(grep -c ': good; step' verify.log)" = 3 ] || fail "not three good ones"

# ---- what verify finds ----
put() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
cp -a keep broken
put broken/checkpoints/step-0000016/ema.h5 5000 '\xff\xff\xff\xff'
expect 3 flipped.log "$vasily" checkpoint verify broken
contains flipped.log "contents have changed"
[ "$(grep -c ': good; step' flipped.log)" = 2 ] || fail "the other two are good"
put broken/checkpoints/step-0000020/ema.h5 5000 '\xff\xff\xff\xff'
expect 3 refuse.log "$vasily" checkpoint prune broken --keep 1 --permanent-every 0
contains refuse.log "nothing is removed"
[ "$(ls broken/checkpoints | grep -c step)" = 3 ] || fail "a good checkpoint was removed beside a damaged one"
# Not numbers, with hashes that are right: in one file, and in a share.
cp -a $one nan && cp -a $two nan-shares
for file in nan/adam_v.h5 nan-shares/share-0001-of-0002.h5; do
    put $file $(($(stat -c %s $file) / 12 * 4)) '\x00\x00\xc0\x7f'
    expect 0 rehash.log "$rehash" "${file%/*}"
    expect 5 nan.log "$vasily" checkpoint verify "${file%/*}"
    contains nan.log "nan"
done
# An index that points elsewhere, with hashes that are right.
cp -a $two index
sed -i 's/"pieces": \[\[0, 0, /"pieces": [[0, 999999999, /' index/weights.shares.json
expect 0 rehash.log "$rehash" index
expect 3 index.log "$vasily" checkpoint verify index
contains index.log "reaches beyond"
rm index/share-0001-of-0002.h5
expect 3 gone.log "$vasily" checkpoint verify index
contains gone.log "share-0001-of-0002.h5"
expect 3 nothing.log "$vasily" checkpoint verify shards
contains nothing.log "holds no checkpoint"

# ---- by the clock ----
"$vasily" train tiny.yaml run.dir=clock checkpoint.every=0 checkpoint.every_minutes=0.003 train.steps=100000 > clock.log 2>&1 &
pid=$!
until [ -e clock/events.jsonl ] && [ "$(grep -c '"checkpoint"' clock/events.jsonl)" -ge 2 ]; do
    kill -0 $pid || fail "training ended early"
    sleep 0.05
done
kill -INT $pid
wait $pid || [ $? = 130 ] || fail "the run by the clock ended with $?"
