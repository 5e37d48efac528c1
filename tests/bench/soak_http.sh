#!/usr/bin/env bash
# soak_http.sh [SECONDS] [BUILD]: the loader over a server that stalls, cuts and corrupts at random, for an hour unless
# told otherwise, compared sample by sample with a loader over the same shards on the local disk. Prints a line a minute
# (samples, memory, open files, what was tried again) and fails when a sample was lost that could be had, when something
# hangs, or when memory or open files grow. See tests/data/test_soak_http.c.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-3600}
build=${2:-build/release}
[ -x "$build/tests/data/test_soak_http" ] || { echo "build it first: ninja -C $build test_soak_http" >&2 && exit 2; }
exec "$build/tests/data/test_soak_http" "$seconds"
