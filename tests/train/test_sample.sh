#!/bin/bash
# vasily sample: samplers, sizes, pictures to start from, masks and places, and drawing a picture again from its texts.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
picture_tool=$3
widen_weights=$4

"$vasily" train tiny.yaml train.steps=2 preview.every=0 preview.steps=3 > train.log 2>&1 || fail "no run"

draw() { # draw OUT options...
    local out=$1
    shift
    expect 0 sample.log "$vasily" sample run --prompt "red circle" --steps 3 --scale 2 --out "$out" "$@"
}
differ() { ! cmp -s "$1" "$2" || fail "$1 and $2 are the same"; }
size_of() { # "WxH" of a PNG
    od -An -tu1 -j16 -N8 "$1" | awk '{ print $3 * 256 + $4 "x" $7 * 256 + $8 }'
}

# Every sampler draws, each something else; the public code's way differs from ours in each.
for sampler in ddpm ddim plms dpm++; do
    draw "$sampler.png" --sampler "$sampler"
    [ "$sampler" = dpm++ ] && continue
    draw "ref-$sampler.png" --sampler "$sampler" --compat reference
    differ "$sampler.png" "ref-$sampler.png"
done
differ ddim.png plms.png
differ plms.png dpm++.png
expect 2 mistake.log "$vasily" sample run --prompt x --sampler dpm++ --compat reference
contains mistake.log "the public code has no dpm++"
# Previews take them all.
"$vasily" train tiny.yaml run.dir=seen train.steps=1 preview.every=1 preview.steps=2 preview.sampler=dpm++ \
    'preview.prompts=["a"]' > preview.log 2>&1 || fail "a preview with dpm++"
[ -s seen/previews/step-0000001.png ] || fail "no preview"

# Captions from a file as editors of another system save it: byte order mark, CRLF. The picture notes them, too.
printf 'en\tred circle\nblue square\n' > captions.txt
printf '\357\273\277en\tred circle\r\n\r\nblue square\r\n' > marked.txt
for name in captions marked; do
    expect 0 sample.log "$vasily" sample run --prompts $name.txt --steps 1 --out $name.png
done
cmp captions.png marked.png || fail "a byte order mark is read as part of a caption"

# Sizes: multiples of the autoencoder's 2 pixels, rounded up to 4 (two levels) and cropped back.
draw wide.png --size 22x14
[ "$(size_of wide.png)" = 22x14 ] || fail "--size 22x14 gave $(size_of wide.png)"
draw square.png --size 12
[ "$(size_of square.png)" = 12x12 ] || fail "--size 12 gave $(size_of square.png)"

# From a picture: PNG, JPEG, WebP; the more of it stays, the nearer.
for picture in grey.png baseline.jpg alpha.webp; do
    draw init.png --init "$here/../data/pictures/$picture" --strength 0.3
done
draw init.png --init wide.png --strength 0.5
draw nearer.png --init wide.png --strength 0.9 --steps 20
draw farther.png --init wide.png --strength 0.1 --steps 20
differ init.png ddim.png
differ nearer.png farther.png

# Inpainting: a mask as large as its picture, white is kept. And outpainting: the picture on a larger canvas.
"$picture_tool" make base.png 16 16 gradient
"$picture_tool" make mask.png 16 16 left
"$picture_tool" make other.png 8 16 left
draw paint.png --init base.png --mask mask.png
! grep -q "drawn anew" sample.log || fail "a hole that is drawn is said to be kept"
# Of a mask that changes nothing it is said: no black pixel, or none that a latent is drawn anew for.
"$picture_tool" make white.png 16 16 white
"$picture_tool" make dot.png 16 16 dot
draw white-hole.png --init base.png --mask white.png
contains sample.log "nothing is drawn anew: at the size"
draw dot-hole.png --init base.png --mask dot.png
contains sample.log "1 of the 1 pixels that are to be drawn anew are kept, and so nothing is"
cmp -s <("$picture_tool" compare white-hole.png dot-hole.png 0 0 16 16 0) <(echo "levels differ by at most 0") ||
    fail "the dot is not missed"
draw pasted.png --init base.png --mask mask.png --paste
draw around.png --init base.png --place 8,4 --size 32x24
[ "$(size_of around.png)" = 32x24 ] || fail "the canvas is $(size_of around.png)"
contains sample.log "was not trained for inpainting"
expect 0 same.log "$picture_tool" compare pasted.png base.png 0 0 8 16 0 # the left half, to the last bit
expect 0 same.log "$picture_tool" compare paint.png base.png 0 0 6 16 40 # but for a column beside the hole
expect 1 same.log "$picture_tool" compare paint.png base.png 8 0 8 16 40 # the right half is another

# A config stands for the weights that its init.from names; here those of an inpainting model of 2 x 12 + 1 channels,
# which sees picture and mask. All of its latents that are kept come back, and so do the pixels.
expect 0 export.log "$vasily" export run --ema --out narrow.safetensors
"$widen_weights" narrow.safetensors wide.safetensors || fail "widen_weights"
sed 's/^  in_channels: 12/  in_channels: 25/' tiny.yaml > paint.yaml
printf 'init:\n  from: wide.safetensors\n' >> paint.yaml
for sampler in ddpm ddim plms dpm++; do
    expect 0 sample.log "$vasily" sample paint.yaml --prompt "red circle" --steps 3 --sampler $sampler --init base.png \
        --mask mask.png --out painted.png
    ! grep -q "not trained for inpainting" sample.log || fail "a warning for an inpainting model"
    expect 0 same.log "$picture_tool" compare painted.png base.png 0 0 6 16 40
done
expect 0 sample.log "$vasily" sample paint.yaml --prompt "red circle" --steps 3 --out text.png
expect 0 sample.log "$vasily" sample paint.yaml --prompt "red circle" --steps 3 --compat reference --sampler ddim \
    --init base.png --mask mask.png --out painted.png
expect 0 again.log "$vasily" sample paint.yaml --like painted.png --out again.png
cmp painted.png again.png || fail "a picture of an inpainting model is not drawn again"
expect 2 mistake.log "$vasily" sample tiny.yaml --prompt x
contains mistake.log "init.from"

# A picture is drawn again from its own texts: alone, from a grid, from the middle of a folder.
for options in "--sampler ddpm" "--sampler ddim --eta 0.3 --threshold 97.25 --seed 123456789012345" \
    "--sampler plms --size 20x12" "--sampler dpm++ --scale 1" "--init base.png --strength 0.35" \
    "--init base.png --mask mask.png --paste" "--init base.png --place -4,2 --size 24x16" \
    "--compat reference --sampler ddpm --no-ema" "--prompt two --prompt three --columns 1 --no-labels"; do
    # shellcheck disable=SC2086
    draw once.png $options
    expect 0 again.log "$vasily" sample run --like once.png --out again.png
    cmp once.png again.png || fail "not drawn again: $options"
done
draw folder --prompt "de	blau" --count 3 --batch 2 --seed 4
expect 0 again.log "$vasily" sample run --like folder/0004-de.png --out again.png
cmp folder/0004-de.png again.png || fail "the fifth of a folder is not drawn again"
expect 0 again.log "$vasily" sample run --like folder/0004-de.png --out again.png --seed 5
differ folder/0004-de.png again.png
for key in prompt steps scale sampler eta threshold seed first size checkpoint step weights-hash text-encoder1-hash; do
    grep -qa "iTXt$key" folder/0000.png || fail "no text $key"
done
draw once.png --init base.png --mask mask.png --strength 0.2
for key in init mask strength init-hash mask-hash; do grep -qa "iTXt$key" once.png || fail "no text $key"; done
cp mask.png kept.png && cp other.png mask.png && cp base.png saved.png && cp other.png base.png
expect 0 again.log "$vasily" sample run --like once.png --out again.png
contains again.log "init-hash of once.png was"
cp kept.png mask.png && cp saved.png base.png
expect 3 again.log "$vasily" sample run --like base.png --out again.png
contains again.log "base.png: has no texts"
expect 3 again.log "$vasily" sample run --like tiny.yaml --out again.png
contains again.log "tiny.yaml"

# Mistakes
mistake() { # mistake "words" options...
    local words=$1
    shift
    expect 2 mistake.log "$vasily" sample run --prompt x "$@"
    contains mistake.log "$words"
}
mistake "multiples of 2; the nearest is 18x16" --size 17x16
mistake "--size takes WxH" --size 16by16
mistake "sides of 1 to" --size 0x16
mistake "one of ddpm, ddim, plms, dpm++" --sampler euler
mistake "plms takes no eta" --sampler plms --eta 0.3
mistake "ddpm takes no eta" --sampler ddpm --eta 0.3
mistake "from 0 to 1" --eta 1.5
mistake "1000 steps" --steps 1001
mistake "--mask needs a picture" --mask mask.png
mistake "--strength needs a picture" --strength 0.5
mistake "--place needs a picture" --place 0,0
mistake "--paste needs to know" --init base.png --paste
mistake "8x16 and the picture" --init base.png --mask other.png
mistake "--strength 0:" --init base.png --strength 0
mistake "--strength 1:" --init base.png --strength 1
mistake "--strength 1.5:" --init base.png --strength 1.5
mistake "leaves none of 2 steps" --init base.png --strength 0.9 --steps 2
draw once.png --init base.png --strength 0.9 --steps 10 # of which one is left
mistake "--place takes X,Y" --init base.png --place 4
mistake "outside of the canvas" --init base.png --place 16,0
mistake "takes no mask" --init base.png --mask mask.png --compat reference --sampler ddim
mistake "did you mean --strength" --init base.png --strenght 0.5
expect 4 mistake.log env VASILY_MEMORY_BYTES=400000000 "$vasily" sample run --prompt x --size 1024 --steps 1
contains mistake.log "draw fewer at once, or smaller ones"
expect 3 mistake.log "$vasily" sample run --prompt x --init gone.png
contains mistake.log "gone.png"
expect 3 mistake.log "$vasily" sample run --prompt x --out absent/x.png
contains mistake.log "there is no folder absent"
# What is written is PNG, whatever the case of its name.
for name in x.jpg X.JPEG x.webp; do
    mistake "pictures are written as PNG" --out $name
    [ ! -e $name ] || fail "$name was made"
done
draw UP.PNG
[ -f UP.PNG ] || fail "UP.PNG is no file"
expect 3 mistake.log "$vasily" sample run --prompt x --init tiny.yaml
contains mistake.log "tiny.yaml: neither PNG"
