#!/bin/bash
# check_tar.sh VASILY EMOJI_SHARDS: shards of ours are as tar, webdataset and DALI's tool expect them.
#
# Makes emoji shards; GNU tar lists and extracts them; their index, written by `vasily data index`, is byte for byte the
# one that DALI's wds2idx writes (skipped by name where that is not on the PATH); webdataset reads the same samples.
# Needs what compare.py needs, as `python3` on the PATH.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
vasily=$1 emoji_shards=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$emoji_shards" --out "$work/shards" --emoji 300 --languages 8 --resolution 32 --samples-per-shard 100 > /dev/null
"$vasily" data index "$work/shards/*.tar"
shards=("$work"/shards/*.tar)
for shard in "${shards[@]}"; do
    mkdir "$work/out"
    tar -xf "$shard" -C "$work/out"
    tar -tvf "$shard" | awk '{print $3, $6}' | sort > "$work/listed"
    (cd "$work/out" && find . -type f -printf '%s %P\n' | sort) | cmp - "$work/listed"
    # offset and size in the index lead to the bytes that tar extracts
    sed 1d "$shard.idx" | tr ' ' '\n' | paste -d' ' - - - - | while read -r _ offset size name; do
        dd if="$shard" bs=64k iflag=skip_bytes,count_bytes skip="$offset" count="$size" status=none |
            cmp - "$work/out/$name"
    done
    rm -r "$work/out"
done
echo "${#shards[@]} shards: GNU tar lists, extracts and agrees with the index"
if command -v wds2idx > /dev/null; then
    for shard in "${shards[@]}"; do
        (cd "$work" && wds2idx "$shard" "$work/dali.idx" > /dev/null)
        cmp "$work/dali.idx" "$shard.idx"
    done
    echo "${#shards[@]} shards: the index is wds2idx's, byte for byte"
else
    echo "SKIPPED: wds2idx is not here"
fi
python3 "$here/compare.py" "$vasily" "${shards[@]}"
