#!/bin/bash
# A packed folder in a bare Debian made by debootstrap, with none of our packages.
#
#   tests/pack/test_pack_debian.sh VASILY MAKE_TEST_SHARDS [SUITE]        (default: trixie, Debian 13)
#
# Needs root, debootstrap and some minutes: ctest runs it only with VASILY_TEST_LONG=1 (launch/test --long).
# VASILY_TEST_DEBIAN=FOLDER names a root that is there already, or where to keep the new one.
set -euo pipefail
suite=${3:-trixie}
for tool in debootstrap unshare chroot; do
    command -v $tool >/dev/null || PATH=$PATH:/usr/sbin:/sbin
    command -v $tool >/dev/null || { echo "SKIPPED: $tool is not installed"; exit 77; }
done
[ -n "${VASILY_TEST_LONG-}${VASILY_TEST_DEBIAN-}" ] || { echo "SKIPPED: needs VASILY_TEST_LONG=1"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "SKIPPED: needs root"; exit 77; }

# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/../train/common.sh"
home=$(cd "$here/../.." && pwd)
root=${VASILY_TEST_DEBIAN:-$work/root}

if [ ! -x "$root/bin/bash" ]; then
    # From the same place as this machine's packages, where it is told.
    mirror=$(grep -hoE '(http|https)://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        head -n 1 | tr -d ' ') || true
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >debootstrap.log 2>&1 ||
        fail "debootstrap: $(tail -n 3 debootstrap.log)"
fi
expect 0 pack.log "$home/launch/pack" --build "$(dirname "$vasily")" packed
tail -n 1 pack.log
rm -rf "$root/vasily-test"
mkdir "$root/vasily-test"
tar -C "$root/vasily-test" -xf packed.tar.xz
cp -r shards tokenizer.model tiny.yaml "$home/tests/pack/check_packed.sh" "$root/vasily-test/"

# Mounts in a namespace of their own are gone when it ends, whatever happens. Single quotes: the inner shell's $root.
# shellcheck disable=SC2016
root=$root expect 0 check.log unshare --mount bash -c '
    mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/dev/shm" &&
        exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin bash -c "cd /vasily-test && bash check_packed.sh packed"'
echo "$(cat "$root/etc/debian_version"): $(tail -n 1 check.log)"
rm -rf "$root/vasily-test"
