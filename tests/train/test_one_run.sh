#!/bin/bash
# Ranks that are not of one run are told so before they train: who differs in what, exit code 6.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
host=$(hostname)

# unlike TEXT MPIRUN-ARGUMENTS...: the job ends with 6, names the difference, and has begun nothing.
unlike() {
    local words=$1
    shift
    expect 6 unlike.log timeout 60 mpirun "$@"
    contains unlike.log "the ranks are not of one run, so none was begun"
    contains unlike.log "$words"
    contains unlike.log "Start every rank with the same program, config, arguments and files"
    [ ! -e run ] || fail "a run folder was made"
}
train=("$vasily" train tiny.yaml train.steps=2 checkpoint.every=0)

# Another value in one rank's config; each of two other ranks; another file.
unlike "rank 2 on $host has optim.max_lr 0.0002, the other 3 have 0.001" \
    -n 2 "${train[@]}" : -n 1 "${train[@]}" optim.max_lr=0.0002 : -n 1 "${train[@]}"
unlike "train.steps: rank 0 on $host has 2; rank 1 on $host has 3" -n 1 "${train[@]}" : -n 1 "${train[@]}" train.steps=3
sed 's/^seed: 7/seed: 8/; s/max_norm.*//; s/name: shapes/name: shape/' tiny.yaml > other.yaml
unlike "seed: rank 0 on $host has 7; rank 1 on $host has 8" -n 1 "${train[@]}" : -n 1 "$vasily" train other.yaml
contains unlike.log "data.sources[0].name: rank 0 on $host has shapes; rank 1 on $host has shape"
contains unlike.log "train.steps: rank 0 on $host has 2; rank 1 on $host has 60"
# A config that would be wrong for so many ranks is compared first.
unlike "train.global_batch: rank 0 on $host has 8; rank 1 on $host has 9" -n 1 "${train[@]}" : \
    -n 1 "${train[@]}" train.global_batch=9

# Another command line, environment, program.
unlike "command: rank 0 on $host has train; rank 1 on $host has train --stop-after 1" \
    -n 1 "${train[@]}" : -n 1 "${train[@]}" --stop-after 1
unlike "environment variable VASILY_ISA: rank 0 on $host has (unset); rank 1 on $host has sse2" \
    -n 1 "${train[@]}" : -n 1 env VASILY_ISA=sse2 "${train[@]}"
cp "$vasily" other-vasily
echo >> other-vasily
unlike "program: rank 0 on $host has " -n 1 "${train[@]}" : -n 1 ./other-vasily "${train[@]:1}"

# The same config where other files are.
mkdir elsewhere
cp -r shards tokenizer.model tiny.yaml elsewhere
"$make_test_shards" elsewhere/shards 4 25 16
unlike "shards of data source shapes: rank 0 on $host has 4 files, " -n 1 "${train[@]}" : \
    -n 1 --wdir elsewhere "${train[@]}"
cp shards/*.tar elsewhere/shards
rm elsewhere/shards/*2.tar
unlike "has 4 files (1 absent), " -n 1 "${train[@]}" : -n 1 --wdir elsewhere "${train[@]}"
# As many bytes in all, in other files.
cp shards/*.tar elsewhere/shards
head -c 512 /dev/zero >> shards/000000.tar
head -c 512 /dev/zero >> elsewhere/shards/000001.tar
unlike "shards of data source shapes: rank 0 on $host has 4 files, " -n 1 "${train[@]}" : \
    -n 1 --wdir elsewhere "${train[@]}"
cp shards/*.tar elsewhere/shards
printf '\0' >> elsewhere/tokenizer.model
unlike "file of data.tokenizer1.model: rank 0 on $host has 1 file, " -n 1 "${train[@]}" : \
    -n 1 --wdir elsewhere "${train[@]}"
unlike "rank 1 on $host has file of data.tokenizer1.model 1 file, 833 bytes, fingerprint" \
    -n 1 "$vasily" precompute tiny.yaml : -n 1 --wdir elsewhere "$vasily" precompute tiny.yaml : \
    -n 1 "$vasily" precompute tiny.yaml
[ -z "$(ls shards/*.h5 2> /dev/null)" ] || fail "something was precomputed"
# A folder of weights.
mkdir encoder elsewhere/encoder
echo one > encoder/model.safetensors
echo two > elsewhere/encoder/model.safetensors
unlike "file of model.text_encoder1.weights: rank 0 on $host has 1 file, 4 bytes, fingerprint" \
    -n 1 "${train[@]}" model.text_encoder1.weights=encoder : \
    -n 1 --wdir elsewhere "${train[@]}" model.text_encoder1.weights=encoder
# Their outputs precomputed, what differs is found among these files.
cp tokenizer.model elsewhere
expect 0 precompute.log "$vasily" precompute tiny.yaml
cp shards/*.h5 elsewhere/shards
rm elsewhere/shards/*3.text.h5
train+=(frozen.text=precomputed)
unlike "precomputed text of data source shapes: rank 0 on $host has 4 files, " \
    -n 1 "${train[@]}" : -n 1 --wdir elsewhere "${train[@]}"
unset 'train[-1]'

# One that cannot even read its config: it says so itself, and the others end with it.
expect 3 absent.log timeout 60 mpirun -n 2 "${train[@]}" : -n 1 "$vasily" train absent.yaml
contains absent.log "[2] absent.yaml"
expect 2 wrong.log timeout 60 mpirun -n 2 "${train[@]}" : -n 1 "${train[@]}" optim.max_lr=fast
contains wrong.log "[2]"
contains wrong.log "optim.max_lr"

# What tells how a rank uses its own machine may differ.
expect 0 own.log mpirun -n 1 "${train[@]}" : -n 1 "${train[@]}" data.decode_threads=2 device.threads=2 \
    data.prefetch_batches=5 device.cache=none
contains own.log "the ranks compute on unlike devices"
[ "$(metric run loss | wc -l)" = 2 ] || fail "no two steps were trained"
# The same of a stage.
stage=(-n 1 "${train[@]}" run.dir=stage)
expect 0 stage.log mpirun "${stage[@]}" 'stages=[{name: one, steps: 2, data: {decode_threads: 1}}]' : \
    "${stage[@]}" 'stages=[{name: one, steps: 2, data: {decode_threads: 2}}]'

# Weights to begin with that are not the same everywhere: the ranks compare what they have loaded.
cp tokenizer.model elsewhere
cp shards/*.tar elsewhere/shards
expect 0 export.log "$vasily" export run --weights --out begin.safetensors
expect 0 export.log "$vasily" export run --ema --out elsewhere/begin.safetensors
train+=(init.from=begin.safetensors run.dir=begun)
expect 6 begin.log timeout 60 mpirun -n 3 "${train[@]}" : -n 1 --wdir elsewhere "${train[@]}"
contains begin.log "after step 0 rank 3 on $host has other weights than the other 3 ranks, first in "
contains begin.log "No step was made yet: the file that they were read from"
