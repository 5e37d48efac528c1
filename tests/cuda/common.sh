# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the tests of training on a device: tests/train/common.sh's folder, data and functions, and the device.
#
#   $1 VASILY, $2 MAKE_TEST_SHARDS
#   VASILY_TEST_DEVICE   what is tested (default: cuda); with VASILY_CUDA_LIBRARY it is the emulator of tests/emu
#   VASILY_TEST_STEPS    steps of a run (default: each script's own), fewer where a step is slow
set -euo pipefail
# shellcheck source=tests/train/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../train/common.sh"
device=${VASILY_TEST_DEVICE:-cuda}
unset VASILY_TEST_DEVICE
# Choices of algorithms are kept between the runs of one test, as they are between those of a user.
exact=("device.name=$device" "device.deterministic=true" "device.cache=$work/cache")

# train RUN OVERRIDE...: tiny.yaml on the device, with algorithms that give the same bits; its output is RUN.log.
train() {
    local run=$1
    shift
    expect 0 "$run.log" "$vasily" train tiny.yaml "run.dir=$run" "${exact[@]}" "$@"
}

# agree A B KEY COUNT MEAN WORST: a column of two runs' metrics; the mean and the worst relative difference of COUNT
# values, which must be at most these.
agree() {
    paste <(metric "$1" "$3") <(metric "$2" "$3") | awk -v name="$1 and $2, $3" -v want="$4" -v mean="$5" -v worst="$6" '
        function abs(x) { return x < 0 ? -x : x }
        {
            # A nan is no number: it must fail.
            if ($1 !~ /^[-+.0-9e]+$/ || $2 !~ /^[-+.0-9e]+$/) broken++
            d = abs($1 - $2) / (abs($1) > 1e-12 ? abs($1) : 1e-12)
            sum += d
            if (d > most) { most = d; at = NR }
            n++
        }
        END {
            printf "%s: %d values, relative difference %.2g in the mean, %.2g at worst (value %d)\n", name, n, n ? sum / n : 0, most, at
            if (n != want || broken || sum > mean * n || most > worst) exit 1
        }' || fail "$1 and $2 differ in $3 by more than $5 in the mean or $6 at worst, or have not $4 values"
}

# same_checkpoint A B STEP: all that was saved, by the hashes of its arrays and, where it is not in shares, which a divided
# optimizer cuts otherwise, file by file.
same_checkpoint() {
    local a b file
    a=$(printf '%s/checkpoints/step-%07d' "$1" "$3")
    b=$(printf '%s/checkpoints/step-%07d' "$2" "$3")
    [ -n "$(hashes "$a")" ] || fail "$a has no hashes"
    [ "$(hashes "$a")" = "$(hashes "$b")" ] || fail "$a and $b differ"
    [ ! -e "$a/weights.shares.json" ] || return 0
    for file in "$a"/*.h5; do
        cmp "$file" "$b/$(basename "$file")" || fail "$file and $b/$(basename "$file") differ"
    done
}

# no_allocations RUN: after its first step.
no_allocations() {
    [ "$(metric "$1" allocations | tail -n +2 | sort -u)" = 0 ] ||
        fail "$1: allocations after the first step: $(metric "$1" allocations | tr '\n' ' ')"
}
