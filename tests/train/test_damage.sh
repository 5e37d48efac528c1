#!/bin/bash
# Damaged checkpoints are found before they are read, named, and passed over for the newest good one.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

expect 0 start.log "$vasily" train tiny.yaml --stop-after 30
c=run/checkpoints

flip() { # one byte in the middle of a file
    local size=$(stat -c %s "$1")
    local byte=$(od -An -tu1 -j $((size / 2)) -N 1 "$1")
    printf "\\$(printf %o $((byte ^ 255)))" | dd of="$1" bs=1 seek=$((size / 2)) conv=notrunc status=none
}

flip $c/step-0000030/adam_v.h5
expect 3 sample.log "$vasily" sample $c/step-0000030 --prompt "red circle" --steps 2
contains sample.log "contents have changed"
expect 0 flipped.log "$vasily" train tiny.yaml --resume auto --stop-after 21
contains flipped.log "adam_v.h5"
contains flipped.log "falling back to"
contains flipped.log "20 steps done"
[ -d $c/step-0000030.set-aside ] || fail "the damaged checkpoint was not set aside"
cmp <(metric run step) <(seq 21) || fail "metrics.jsonl does not follow the checkpoint that was taken"

head -c 1000 $c/step-0000021/weights.h5 > cut && mv cut $c/step-0000021/weights.h5
expect 0 short.log "$vasily" train tiny.yaml --resume auto --stop-after 22
contains short.log "1000 bytes, the manifest says"
rm $c/step-0000022/ema.h5
expect 0 missing.log "$vasily" train tiny.yaml --resume auto --stop-after 23
contains missing.log "ema.h5"
echo '{"format": 1, "files": [' > $c/step-0000023/manifest.json
expect 0 manifest.log "$vasily" train tiny.yaml --resume auto --stop-after 24
contains manifest.log "manifest.json"

for step in $c/step-*[0-9]; do flip "$step/state.json"; done
expect 3 none.log "$vasily" train tiny.yaml --resume auto
contains none.log "none of its"
expect 3 nothing.log "$vasily" train tiny.yaml --resume /nonexistent
contains nothing.log "/nonexistent"
