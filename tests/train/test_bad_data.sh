#!/bin/bash
# Training goes on past bad samples and says how many were passed over, by reason; or stops with a clear message.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

mkdir bad
cp shards/000001.tar bad/good.tar
head -c 20000 shards/000002.tar > bad/truncated.tar
: > bad/empty.tar
cp shards/000003.tar bad/flipped.tar
for at in 600 9000 15000; do printf 'XXXXXXXX' | dd of=bad/flipped.tar bs=1 seek=$at conv=notrunc status=none; done
expect 0 bad.log "$vasily" train tiny.yaml train.steps=10 data.max_bad_share=0.9 \
    'data.sources=[{name: bad, shards: ["bad/*.tar"]}]'
contains bad.log "passed over:"
contains bad.log "empty_shard 1"
contains bad.log "broken_shard"

expect 0 two.log mpirun -n 2 "$vasily" train tiny.yaml train.steps=10 run.dir=two data.max_bad_share=0.9 \
    'data.sources=[{name: bad, shards: ["bad/*.tar"]}]'
contains two.log "empty_shard 1"

expect 3 missing.log "$vasily" train tiny.yaml run.dir=three 'data.sources=[{name: gone, shards: [bad/absent.tar]}]'
contains missing.log "absent.tar"
