#!/usr/bin/env bash
# test_rooms.sh BUILD: the walls of the house hold. A room's archive may not need a symbol that only higher rooms define
# (a static library does not notice such a call), nor may its files include a header of a room that it does not use, nor
# may a library's header be included by another room than the one that owns the library (docs/house.md).
set -eu
build=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
cd "$source"
rooms=(base engine data model optim train)
declare -A uses=([base]="" [engine]="base" [data]="base" [model]="base engine" [optim]="base engine"
    [train]="base engine data model optim")
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

symbols() { # KIND ROOM: the names that a room's archive defines (T) or needs (U)
    local archive=$build/$2/libvasily_$2.a
    [ -f "$archive" ] || { echo "$archive is missing: build first" >&2 && exit 1; }
    if [ "$1" = U ]; then nm -u "$archive"; else nm -g --defined-only "$archive"; fi 2>/dev/null |
        awk -v kind="$1" 'kind == "U" ? $1 == "U" : NF == 3 { print $NF }' | sort -u
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for room in "${rooms[@]}"; do
    symbols T "$room" >"$work/$room.defined"
    symbols U "$room" >"$work/$room.needed"
    [ -s "$work/$room.defined" ] || fail "$room defines nothing"
done

for room in "${rooms[@]}"; do
    for lower in $room ${uses[$room]}; do cat "$work/$lower.defined"; done | sort -u >"$work/allowed"
    for other in "${rooms[@]}"; do
        case " $room ${uses[$room]} " in *" $other "*) continue ;; esac
        wrong=$(comm -12 "$work/$room.needed" "$work/$other.defined" | comm -23 - "$work/allowed")
        [ -z "$wrong" ] || fail "$room calls into $other: $(echo "$wrong" | tr '\n' ' ')"
        wrong=$(grep -rnE "^ *# *include +[\"<]$other/" "$source/$room" --include='*.[ch]' --include='*.cc' || true)
        [ -z "$wrong" ] || fail "$room includes a header of $other: $wrong"
    done
    wrong=$(grep -rnE '^ *# *include +"\.\./' "$source/$room" || true)
    [ -z "$wrong" ] || fail "an include climbs out of $room: $wrong"
done

# A library's headers, and the only files that may include them.
owner() { # PATTERN FILE-PATTERN...
    local pattern=$1 wrong
    shift
    wrong=$(grep -rlE "^ *# *include +<($pattern)" "${rooms[@]}" tools --include='*.[ch]' --include='*.cc' |
        grep -vE "^($(IFS='|' && echo "$*"))" || true)
    [ -z "$wrong" ] || fail "<$pattern> is included by $wrong; only $* may"
}
owner 'yaml\.h' base/
owner 'json-c/|json\.h' base/
owner 'xxhash\.h' base/
owner 'archive\.h|archive_entry\.h' base/
owner 'hdf5\.h|H5' base/
owner 'mpi\.h' engine/comm train/main.c
owner 'oneapi/|dnnl' engine/cpu/
owner 'cuda|cudnn|cublas|nccl' engine/cuda/ engine/comm

# The plugin's own needs of the program that opens it are exported by it, and are of base/ and engine/ alone.
plugin=$build/libvasily_cuda.so
[ -f "$plugin" ] || plugin=$build/emu/libvasily_cuda.so
if [ -f "$plugin" ]; then
    nm -D --undefined-only "$plugin" | awk '{ print $NF }' | sort -u >"$work/plugin.needed"
    nm -D --defined-only "$build/vasily" | awk '{ print $NF }' | sort -u >"$work/program.exported"
    cat "$work"/{base,engine}.defined | sort -u >"$work/lower.defined"
    cat "$work"/{data,model,optim,train}.defined | sort -u >"$work/higher.defined"
    wrong=$(comm -12 "$work/plugin.needed" "$work/higher.defined")
    [ -z "$wrong" ] || fail "$plugin calls into a room above engine: $(echo "$wrong" | tr '\n' ' ')"
    wrong=$(comm -12 "$work/plugin.needed" "$work/lower.defined" | comm -23 - "$work/program.exported")
    [ -z "$wrong" ] || fail "$plugin needs what vasily does not export: $(echo "$wrong" | tr '\n' ' ')"
    grep -q . "$work/plugin.needed" || fail "$plugin needs nothing: is it stripped?"
else
    echo "SKIPPED the walls of libvasily_cuda.so: neither it nor the emulated one is built"
fi
owner 'jpeglib\.h|turbojpeg\.h|webp/' data/
owner 'png\.h' data/ tools/
owner 'sentencepiece' data/
owner 'curl/' data/
owner 'tensorboard\.pb-c\.h|protobuf-c/' train/tensorboard.c
owner 'hb|expat\.h' tools/

if [ "$failures" -gt 0 ]; then
    echo "$failures walls are broken"
    exit 1
fi
echo "the walls between ${rooms[*]} hold"
