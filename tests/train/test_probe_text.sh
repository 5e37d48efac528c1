#!/bin/bash
# The probes of text from outside: ids as lines, states from a config, and refusals that say what would be right.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

models=$here/../data/tokenizers
tokenize=("$vasily" probe tokenize --model "$models/fairseq.model" --style xlmr --max-tokens)
printf 'grinning face\n\na</s>b\ncut me here' > captions.txt # the last line has no end
expect 0 ids.txt "${tokenize[@]}" 8 captions.txt
cat > wanted.txt <<'IDS'
0 4 55 27 101 49 101 2
0 2 1 1 1 1 1 1
0 4 42 2 4 114 2 1
IDS
cmp <(head -3 ids.txt) wanted.txt || fail "ids: $(cat ids.txt)"
[ "$(wc -l < ids.txt)" = 4 ] || fail "four captions make four lines"
cmp ids.txt <("${tokenize[@]}" 8 < captions.txt) || fail "standard input gives other ids"
cmp ids.txt <({ printf '\357\273\277'; cat captions.txt; } | "${tokenize[@]}" 8) || fail "a byte order mark has ids"
[ -z "$("${tokenize[@]}" 8 < /dev/null)" ] || fail "ids of nothing"
[ "$(head -1 captions.txt | "${tokenize[@]}" 77 | wc -w)" = 77 ] || fail "a row has 77 ids"

printf 'fine\n\xff\n' > broken.txt
expect 3 broken.log "${tokenize[@]}" 8 broken.txt
contains broken.log "broken.txt, line 2"
contains broken.log "UTF-8"
expect 2 style.log "$vasily" probe tokenize --model "$models/fairseq.model" --style bert
contains style.log "xlmr, mt5, mt5-bytes"
expect 2 model.log "$vasily" probe tokenize --style mt5
contains model.log "--model FILE"
expect 3 absent.log "$vasily" probe tokenize --model absent.model --style mt5
contains absent.log "absent.model"
expect 3 captions.log "${tokenize[@]}" 8 absent.txt
contains captions.log "absent.txt"

# Tokens 0 4 2 of one caption, as safetensors by hand.
header='{"tokens":{"dtype":"I32","shape":[1,3],"data_offsets":[0,12]}}'
{
    printf '%b' "\\x$(printf %02x ${#header})\\0\\0\\0\\0\\0\\0\\0"
    printf '%s' "$header"
    printf '\0\0\0\0\4\0\0\0\2\0\0\0'
} > in.safetensors
expect 0 xlmr.log "$vasily" probe xlmr-clip tiny.yaml in.safetensors xlmr.safetensors
contains xlmr.log "initial weights of seed 7"
[ "$(stat -c %s xlmr.safetensors)" -gt $((3 * 32 * 4 + 16 * 4)) ] || fail "states and pooled are not there"
expect 0 mt5.log "$vasily" probe mt5 tiny.yaml in.safetensors mt5.safetensors
cp mt5.safetensors before.safetensors
expect 0 mt5.log "$vasily" probe mt5 tiny.yaml in.safetensors mt5.safetensors
cmp mt5.safetensors before.safetensors || fail "the same probe gives other states"
expect 0 mt5.log "$vasily" probe mt5 tiny.yaml in.safetensors mt5.safetensors seed=8
! cmp -s mt5.safetensors before.safetensors || fail "another seed gives the same states"
expect 3 weights.log "$vasily" probe mt5 tiny.yaml in.safetensors mt5.safetensors --weights gone.bin
contains weights.log "gone.bin"
expect 2 heads.log "$vasily" probe xlmr-clip tiny.yaml in.safetensors out.safetensors model.text_encoder1.heads=3
contains heads.log "model.text_encoder1.heads"
