#!/bin/bash
# A disk that fills up while a checkpoint is written: a clear error, older checkpoints as they were, nothing left behind.
# A small tmpfs where mounting is allowed; a limit on the size of files stands in elsewhere, and is tried in any case.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

check() { # check RUN LOG
    contains "$2" "could not be saved, older ones are as they were"
    [ "$(readlink "$1/checkpoints/latest")" = step-0000010 ] || fail "$1: latest has moved"
    ! ls "$1/checkpoints" | grep -q tmp || fail "$1: temporary files are left: $(ls "$1/checkpoints")"
}

expect 0 start.log "$vasily" train tiny.yaml run.dir=limited --stop-after 10
(
    trap '' XFSZ
    ulimit -f 1000
    expect 3 limited.log "$vasily" train tiny.yaml run.dir=limited --resume auto
)
check limited limited.log
expect 0 limited-again.log "$vasily" train tiny.yaml run.dir=limited --resume auto --stop-after 20

mkdir small
if mount -t tmpfs -o size=40m vasily-test small 2> mount.log; then
    trap 'cd /; umount "$work/small" || umount -l "$work/small"; rm -rf "$work"' EXIT
    expect 0 small-start.log "$vasily" train tiny.yaml run.dir=small/run --stop-after 10
    # Room for half a checkpoint by the look of it beforehand: refused before anything is written.
    head -c $(($(df --output=avail -B1 small | tail -1) - 6000000)) /dev/zero > small/ballast
    expect 3 small.log "$vasily" train tiny.yaml run.dir=small/run --resume auto
    check small/run small.log
    contains small.log "free some space"
    rm small/ballast
    expect 0 small-again.log "$vasily" train tiny.yaml run.dir=small/run --resume auto --stop-after 20
else
    echo "no tmpfs may be mounted here: only the limit on file sizes was tried"
fi
