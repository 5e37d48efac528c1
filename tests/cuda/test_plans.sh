#!/usr/bin/env bash
# test_plans.sh PLAN_SHAPES PROPERTIES SHAPES DRIVER: every shape has a plan (by default the first of each kind and type
# alone; all with VASILY_TEST_LONG=1); a second start takes all of them from the
# cache, and quickly; a damaged file is noticed and made anew; gradients have plans that repeat bit by bit. DRIVER is
# the folder of the driver's stand-in.
set -euo pipefail
plan_shapes=$1 properties=$2 shapes=$3 driver=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${VASILY_TEST_LONG-}" ]; then
    grep '^[a-z]' "$shapes" | awk '!($1 ~ /^attention/ ? seen[$1]++ : seen[$1, $2]++)' >"$work/shapes"
    echo "SKIPPED $(($(grep -c '^[a-z]' "$shapes") - $(wc -l <"$work/shapes"))) of the shapes: VASILY_TEST_LONG=1 plans them"
    shapes=$work/shapes
fi

plan() # plan SHAPES [deterministic]: with the cache
{
    LD_LIBRARY_PATH=$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
        "$plan_shapes" "$properties" "$1" "$work/cache" ${2:+"$2"} 2>&1
}
fail()
{
    echo "test_plans: $*" >&2
    exit 1
}

plan "$shapes" | tee "$work/cold" || fail "not every shape has a plan"
grep -q 'made anew' "$work/cold" && fail "the cache was not empty"

plan "$shapes" > "$work/warm" || fail "the second start failed"
grep -q 'made anew' "$work/warm" && fail "a plan of the cache was not taken"
planned=$(grep -c 'cudnn ' "$work/cold")
kept=$(grep -c ': kept ' "$work/warm") || true
[[ $kept -eq $planned ]] || fail "$kept of $planned plans came from the cache"
seconds=$(tail -1 "$work/warm" | cut -d' ' -f1)
awk -v s="$seconds" 'BEGIN { exit s < 20 ? 0 : 1 }' || fail "a start with a full cache took $seconds s"

# What sums in no fixed order has other plans then: none may be left without.
grep '^grad\|^attention_grad' "$shapes" > "$work/gradients"
plan "$work/gradients" deterministic || fail "not every gradient has a plan that repeats"

# One line, so that one file is its own.
grep -m1 '^conv' "$shapes" > "$work/one"
rm -r "$work/cache"
plan "$work/one" > /dev/null
file=$(ls "$work"/cache/*.plan)
damage() # damage WHAT: the next start says so and mends it
{
    plan "$work/one" > "$work/out" || fail "$1: no plan"
    grep -q "damaged; the plan is made anew" "$work/out" || fail "$1: not noticed"
    plan "$work/one" > "$work/out"
    grep -q ': kept ' "$work/out" || fail "$1: not mended"
}
printf 'x' | dd of="$file" bs=1 seek=200 conv=notrunc status=none
damage "a changed byte"
truncate -s -1 "$file"
damage "a byte less"
: > "$file"
damage "an empty file"
echo "test_plans: $planned plans; with a full cache $seconds s"
