#!/usr/bin/env bash
# test_emoji_programs.sh EMOJI_SHARDS EMOJI_SCORE: the two programs on the installed font and names.
set -eu
shards=$1 score=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() {
    echo "FAILED: $*"
    exit 1
}
expect() { # TEXT FILE
    grep -qF -- "$1" "$2" || fail "'$1' is not in $2: $(cat "$2")"
}
refuses() { # TEXT COMMAND...: fails, and says TEXT
    if "${@:2}" >refused.out 2>refused.err; then fail "accepted: ${*:2}"; fi
    expect "$1" refused.err
}

printf '# Three of them\n🐢 turtle\n❤️ heart\n🌈\n' >emoji.txt
printf 'en\nru\nja Japanese\n' >languages.txt
"$shards" --out a --emoji emoji.txt --languages languages.txt --resolution 32 --repeat 3 --samples-per-shard 4 >made.txt
expect '3 emoji, 3 languages, 9 names; 9 samples of 32x32 in 3 shards' made.txt
[ "$(ls a)" = "$(printf '00000.tar\n00001.tar\n00002.tar\ncorpus.txt\nnames.tsv')" ] || fail "a holds $(ls a)"
[ "$(tar tf a/00001.tar | head -n 3 | tr '\n' ' ')" = '000010000.png 000010000.txt 000010000.json ' ] || fail "members"
[ "$(wc -l <a/corpus.txt) $(wc -l <a/names.tsv)" = '9 9' ] || fail "lists"
expect "$(printf '🐢\tja\tカメ')" a/names.tsv
# Every emoji with three different captions, whose language is told.
for i in 0 1 2; do tar xf "a/0000$i.tar"; done
[ "$(for text in 0*.txt; do cat "$text" && echo; done | grep -cE '^(turtle|черепаха|カメ)$')" = 3 ] || fail "captions"
expect '"LANGUAGE": "' 000000000.json
expect '"original_width": 136, "original_height": 128' 000000000.json
grep -lF '"emoji": "❤"' ./*.json >/dev/null || fail "the selector U+FE0F stays in the key"
# The same call gives the same bytes; another seed another order.
printf '\357\273\277' | cat - languages.txt >marked.txt # as some editors save it
"$shards" --out b --emoji emoji.txt --languages marked.txt --resolution 32 --repeat 3 --samples-per-shard 4 >/dev/null
cmp a/00002.tar b/00002.tar
# Numbers instead of lists, no skin tones, validation apart.
"$shards" --out c --emoji 60 --languages 31 --no-skin-tones --resolution 16 --validation 0.2 >made.txt
expect '31 languages' made.txt
[ -f c/validation/00000.tar ] || fail "no validation shards"
[ "$(cat c/names.tsv c/validation/names.tsv | cut -f 1 | sort -u | wc -l)" = 60 ] || fail "not 60 emoji"
[ -z "$(cut -f 1 c/names.tsv c/validation/names.tsv | sort | uniq -c | awk '$1 > 31')" ] || fail "an emoji in both sets"
if grep -q $'\xf0\x9f\x8f[\xbb-\xbf]' c/names.tsv; then fail "a skin tone"; fi
refuses "language 'xx'" "$shards" --out d --emoji emoji.txt --languages <(echo xx)
refuses "'turtle' has no name" "$shards" --out d --emoji <(echo turtle) --languages languages.txt
refuses 'listed twice' "$shards" --out d --emoji <(printf '🐢\n🐢\n') --languages languages.txt
refuses '--resolution 129' "$shards" --out d --resolution 129
refuses 'from 1 to' "$shards" --out d --emoji 100000 --languages languages.txt
refuses 'cannot read it' "$shards" --out d --font /nonexistent.ttf
refuses 'not a font' "$shards" --out d --font emoji.txt
refuses 'unicode-cldr-core' "$shards" --out d --cldr /nonexistent

# The shards' own pictures are all right; with two exchanged, two are wrong.
: >list.tsv
for json in 0*.json; do
    printf '%s.png\t%s\ten\tname\n' "${json%.json}" "$(sed 's/.*"emoji": "\([^"]*\)".*/\1/' "$json")" >>list.tsv
done
"$score" list.tsv a/*.tar --json score.json >scored.txt
expect '9 of 9 pictures (100.0%)' scored.txt
expect '"right": 9' score.json
sed '1s/[^\t]*\t/000010000.png\t/' list.tsv >wrong.tsv
first=$(cut -f 2 list.tsv | head -n 1)
fifth=$(sed -n 5p list.tsv | cut -f 2)
"$score" wrong.tsv a/*.tar --json score.json >scored.txt
if [ "$first" != "$fifth" ]; then
    expect '8 of 9 pictures (88.9%)' scored.txt
    expect "missed: $first asked for, nearest to $fifth" scored.txt
    expect "\"nearest\": \"$fifth\"" score.json
fi
refuses 'is not among' "$score" <(printf '000000000.png\tx\n') a/*.tar
"$shards" --out e --emoji emoji.txt --languages languages.txt --resolution 16 >/dev/null
refuses '16 x 16' "$score" list.tsv e/*.tar
echo "emoji_shards and emoji_score do what they say"
