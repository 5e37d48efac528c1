#!/bin/bash
# launch/pack on what is built here, then the packed program with nothing of this environment; and where it looks for
# CUDA's libraries. test_pack.sh VASILY MAKE_TEST_SHARDS
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/../train/common.sh"
home=$(cd "$here/../.." && pwd)

expect 0 pack.log "$home/launch/pack" --build "$(dirname "$vasily")" --no-archive packed
expect 0 check.log env -i PATH=/usr/bin:/bin bash "$home/tests/pack/check_packed.sh" packed
cat check.log

# A second time over the first, without tests; never over anything else.
expect 0 again.log "$home/launch/pack" --build "$(dirname "$vasily")" --no-archive --no-tests packed
[ ! -e packed/launch/test-gpu ] || fail "--no-tests packs tests"
mv packed elsewhere
expect 0 version.log env -i PATH=/usr/bin:/bin elsewhere/bin/vasily --version
mkdir mine
touch mine/file
expect 1 mine.log "$home/launch/pack" --build "$(dirname "$vasily")" mine
contains mine.log "not a packed folder"
[ -e mine/file ] || fail "launch/pack removed a folder that was not its own"

# CUDA's libraries: in a virtual environment, told, already known.
mkdir -p fake/bin fake/lib "venv/lib/python3.11/site-packages/nvidia/"{cu13,cudnn}/lib known
cp "$home/launch/pack-run" fake/bin/with-libraries
printf '%s\n' libvasilytest1.so.1 libvasilytest2.so.2 libvasilytest3.so.3 >fake/lib/cuda-libraries
touch venv/lib/python3.11/site-packages/nvidia/cu13/lib/libvasilytest1.so.1 \
    venv/lib/python3.11/site-packages/nvidia/cudnn/lib/libvasilytest2.so.2 known/libvasilytest3.so.3
site=$work/venv/lib/python3.11/site-packages/nvidia
found() { # WANTED VARIABLE...
    local want=$1 got
    # shellcheck disable=SC2016 # the inner shell's variable
    got=$(env -i PATH=/usr/bin:/bin "${@:2}" fake/bin/with-libraries sh -c 'echo "$LD_LIBRARY_PATH"')
    [ "$got" = "$work/fake/lib$want" ] || fail "LD_LIBRARY_PATH is $got, not $work/fake/lib$want"
}
found "" VIRTUAL_ENV=/nowhere
found ":$site/cu13/lib:$site/cudnn/lib" VIRTUAL_ENV="$work/venv"
found ":$site/cu13/lib:$site/cudnn/lib:$work/known" VIRTUAL_ENV="$work/venv" LD_LIBRARY_PATH="$work/known"
found ":/a:/b" VASILY_CUDA_FOLDERS=/a:/b VIRTUAL_ENV="$work/venv"
found "" VASILY_CUDA_FOLDERS= VIRTUAL_ENV="$work/venv"
