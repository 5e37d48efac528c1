#!/bin/bash
# vasily sample --grid: each picture is the one that its caption and seed give alone, sheets are drawn again from their
# texts, mistakes are named.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
picture_tool=$3

"$vasily" train tiny.yaml train.steps=2 preview.every=0 preview.steps=3 > train.log 2>&1 || fail "no run"
cat > grid.yaml <<'YAML'
seeds: [3, 500]
subjects:
  - title: A red circle!
    prompts:
      en: red circle
      ru: красный круг
      ar: دائرة حمراء
  - title: cross
    prompts: {en: blue cross, de: blaues Kreuz}
YAML
options=(--steps 3 --scale 2 --batch 2 --sampler ddpm)
size_of() { # "WxH" of a PNG
    od -An -tu1 -j16 -N8 "$1" | awk '{ print $3 * 256 + $4 "x" $7 * 256 + $8 }'
}
same() { # every pixel of two pictures of the run
    expect 0 same.log "$picture_tool" compare "$1" "$2" 0 0 16 16 0
}

expect 0 grid.log "$vasily" sample run --grid grid.yaml --out study "${options[@]}"
contains grid.log "10 pictures of 16x16"
for file in 1-a-red-circle.png 2-cross.png 1-a-red-circle/{en,ru,ar}-{3,500,mean}.png 2-cross/{en,de}-{3,500,mean}.png; do
    [ -s "study/$file" ] || fail "there is no study/$file"
done
[ "$(find study -type f | wc -l)" = 17 ] || fail "study has other files, too"

# Each as it is drawn alone, and again from its own texts.
for case in "1-a-red-circle/ru-500|красный круг|500" "1-a-red-circle/ar-3|دائرة حمراء|3" "2-cross/de-500|blaues Kreuz|500"; do
    IFS='|' read -r file caption seed <<< "$case"
    expect 0 alone.log "$vasily" sample run --prompt "$caption" --seed "$seed" --out alone.png --steps 3 --scale 2 --sampler ddpm
    same "study/$file.png" alone.png
    expect 0 again.log "$vasily" sample run --like "study/$file.png" --out again.png
    same "study/$file.png" again.png
done
expect 1 same.log "$picture_tool" compare study/1-a-red-circle/en-3.png study/1-a-red-circle/en-500.png 0 0 16 16 0
expect 1 same.log "$picture_tool" compare study/1-a-red-circle/en-3.png study/1-a-red-circle/ru-3.png 0 0 16 16 0
expect 3 again.log "$vasily" sample run --like study/2-cross/en-mean.png --out again.png
contains again.log "has no texts"
expect 0 alone.log "$vasily" sample run --prompt "red circle" --seed 3 --first 9 --out alone.png --steps 3 --scale 2 --sampler ddpm
expect 0 grid.log "$vasily" sample run --grid grid.yaml --out ninth --first 9 "${options[@]}"
same ninth/1-a-red-circle/en-3.png alone.png

# One PNG of all subjects, and sheets of a folder, come again from their texts.
expect 0 grid.log "$vasily" sample run --grid grid.yaml --out all.png "${options[@]}"
# 16-pixel pictures are enlarged to 64: 4 + 2 x 68 + 12 + 68 wide, 4 + 2 x 13 + rows x 81 high, 16 between
[ "$(size_of all.png)" = "220x$((30 + 3 * 81 + 16 + 30 + 2 * 81))" ] || fail "the sheet is $(size_of all.png)"
expect 0 again.log "$vasily" sample run --like all.png --out again.png
cmp all.png again.png || fail "a sheet is not drawn again"
expect 0 again.log "$vasily" sample run --like study/2-cross.png --out again.png
[ "$(size_of again.png)" = "220x$((30 + 2 * 81))" ] || fail "the sheet is $(size_of again.png)"
expect 0 again.log "$vasily" sample run --like study/2-cross.png --out folder
same folder/1-cross/de-500.png study/2-cross/de-500.png
expect 0 again.log "$vasily" sample run --grid grid.yaml --like alone.png --out like
same like/1-a-red-circle/en-3.png alone.png # with --first 9 and all else of that picture

# Mistakes
mistake() { # mistake CODE "words" options...
    local code=$1 words=$2
    shift 2
    expect "$code" mistake.log "$vasily" sample run "$@"
    contains mistake.log "$words"
}
mistake 2 "leave captions away" --grid grid.yaml --prompt x
mistake 2 "leave --seed away" --grid grid.yaml --seed 1
mistake 2 "leave --count away" --grid grid.yaml --count 2
mistake 2 "leave a picture to start from away" --grid grid.yaml --init all.png
mistake 2 "leave --seed away" --like all.png --seed 1
mistake 3 "absent.yaml" --grid absent.yaml
sed 's/^  - title: cross/  - titel: cross/' grid.yaml > wrong.yaml
mistake 2 "wrong.yaml:8: subjects[1].titel is not a key" --grid wrong.yaml
mistake 2 "--grid FILE"
