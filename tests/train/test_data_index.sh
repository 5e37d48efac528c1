#!/bin/bash
# vasily data index and data show: index files, lists that a config can name, shards that are passed over.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

plain=(data.write_index=false)
"$vasily" data order tiny.yaml "${plain[@]}" --steps 12 2> order.log > order.plain
[ -z "$(ls shards/*.idx 2> /dev/null)" ] || fail "an index was written with data.write_index=false"

expect 0 index.log "$vasily" data index tiny.yaml --list list.txt
for shard in shards/*.tar; do [ -s "$shard.idx" ] || fail "$shard has no index"; done
contains list.txt "shards/000000.tar	24	"
[ "$(grep -c tar list.txt)" = 4 ] || fail "the list has not 4 shards: $(cat list.txt)"
expect 0 again.log "$vasily" data index list:list.txt
grep -Eq 'shards +4 +0 +4 ' again.log || fail "indexes were made again: $(cat again.log)"
expect 0 forced.log "$vasily" data index --force list:list.txt
grep -Eq 'shards +4 +4 +0 ' forced.log || fail "--force made no indexes: $(cat forced.log)"

# Indexes and a list change nothing in the order; nor does a list that stands in another folder.
"$vasily" data order tiny.yaml --steps 12 > order.index
cmp order.plain order.index
"$vasily" data order tiny.yaml --steps 12 'data.sources=[{name: shapes, shards: ["list:list.txt"]}]' > order.list
cmp order.plain order.list
mkdir -p elsewhere/deep
expect 0 two.log "$vasily" data index tiny.yaml --list 'elsewhere/deep/{source}.txt' --index-folder kept \
    "data.sources=[{name: shapes, shards: ['shards/*.tar']}, {name: b, shards: [shards/000001.tar]}]"
kept=(kept/*.idx)
[ "${#kept[@]}" = 4 ] || fail "the index folder has not 4 files: ${kept[*]}"
contains "elsewhere/deep/shapes.txt" "$work/shards/000003.tar	24	"
rm shards/*.idx
"$vasily" data order tiny.yaml "${plain[@]}" --steps 12 data.read.index_folder=kept \
    "data.sources=[{name: shapes, shards: ['list:elsewhere/deep/shapes.txt']}]" > order.moved
cmp order.plain order.moved
expect 0 fresh.log "$vasily" data index tiny.yaml --list 'fresh/lists/{source}.txt' # the folder is made
contains fresh/lists/shapes.txt "shards/000003.tar	24	"
mkdir folder.txt
expect 3 folder.log "$vasily" data index tiny.yaml --list folder.txt
contains folder.log "--list: folder.txt is a folder"
if grep -q "GB" folder.log; then fail "shards were indexed before the list's place was looked at"; fi
expect 2 pattern.log "$vasily" data index tiny.yaml --list one.txt \
    'data.sources=[{name: a, shards: [shards/000000.tar]}, {name: b, shards: [shards/000001.tar]}]'
contains pattern.log "{source}"
expect 2 http.log "$vasily" data index http://127.0.0.1:1/x.tar
contains http.log "data.read.index_folder"

# What is damaged or cannot be read is said, and passed over.
head -c 20000 shards/000002.tar > cut.tar
: > empty.tar
expect 3 bad.log "$vasily" data index shards/000000.tar cut.tar empty.tar --list some.txt
contains bad.log "cut.tar: truncated"
contains some.txt "# damaged: cut.tar"
contains some.txt "empty.tar	0	0"
[ ! -e cut.tar.idx ] || fail "a damaged shard has an index"
expect 3 absent.log timeout 15 "$vasily" data index tiny.yaml \
    'data.sources=[{name: a, shards: [shards/000000.tar, absent.tar]}]'
contains absent.log "absent.tar"
grep -Eq 'a +2 +0 +1 +0 +0 +1 +24 ' absent.log || fail "one of two shards should be unreadable: $(cat absent.log)"

# One line a sample; its members as they lie in the tar.
"$vasily" data show tiny.yaml > show.all
[ "$(wc -l < show.all)" = 96 ] || fail "data show prints $(wc -l < show.all) lines, not 96"
[ "$("$vasily" data show shards/000001.tar --samples 5 | grep -c '"verdict": "accepted"')" = 5 ] ||
    fail "data show: five samples are not accepted"
tar -tf shards/000000.tar > names # not into head, whose end would be a signal for tar
first=$(head -1 names)
tar -xf shards/000000.tar "$first"
contains <(head -1 show.all) "\"bytes\": $(stat -c %s "$first")"

# Numbers of a list that are not so, and shards that are named twice.
printf 'shards/000000.tar\t25\nshards/000001.tar\t24\nshards/000002.tar\t24\t77\n' > wrong.txt
expect 0 wrong.log "$vasily" data index list:wrong.txt
contains wrong.log "shards/000000.tar: the list says 25 samples, there are 24"
contains wrong.log "shards/000002.tar: the list says 77 bytes, there are $(stat -c %s shards/000002.tar)"
[ "$(grep -c "the list says" wrong.log)" = 2 ] || fail "differences from the list: $(cat wrong.log)"
expect 0 twice.log "$vasily" data index 'shards/*.tar' shards/000001.tar 'shards/00000{1,2}.tar'
contains twice.log "3 of 7 shards are named again after they were named before, such as shards/000001.tar"
expect 0 right.log "$vasily" data index list:list.txt
if grep -q "the list says\|named again" right.log; then fail "a right list is said to be wrong: $(cat right.log)"; fi

# What is not there is said once and at once, and told by the exit code.
printf 'shards/000000.tar\t24\nabsent.tar\t24\n' > with_absent.txt
for from in absent.tar list:with_absent.txt; do
    expect 3 show.log timeout 15 "$vasily" data show $from shards/000001.tar
    [ "$(grep -c "absent.tar" show.log)" = 1 ] || fail "data show $from: a missing shard is not named once"
done
expect 3 show.log "$vasily" data show cut.tar
