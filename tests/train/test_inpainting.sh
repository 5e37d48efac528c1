#!/bin/bash
# Training an inpainting model: from a model for text, exact over a resume and over ranks, its previews, its masks.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
picture_tool=$3

# The model for text that it begins with, and the inpainting config over it.
expect 0 text.log "$vasily" train tiny.yaml run.dir=text train.steps=10
sed 's/^  in_channels: 12/  in_channels: 25/' tiny.yaml > paint.yaml
printf 'init:\n  from: text\ninpainting:\n  whole: 1\n  more: 0.5\n' >> paint.yaml
short=(train.steps=20 optim.total_steps=20)

# 10 steps, stop, 10 more are 20 steps to the bit.
expect 0 whole.log "$vasily" train paint.yaml run.dir=whole "${short[@]}"
contains whole.log "widened for inpainting: input_blocks.0.0.weight takes 25 channels instead of 12"
expect 0 first.log "$vasily" train paint.yaml run.dir=parts "${short[@]}" --stop-after 10
expect 0 second.log "$vasily" train paint.yaml run.dir=parts "${short[@]}" --resume auto
contains second.log "10 steps done"
! grep -q "widened" second.log || fail "a resumed run was widened again"
a=$(hashes whole/checkpoints/step-0000020) b=$(hashes parts/checkpoints/step-0000020)
[ -n "$a" ] && [ "$a" = "$b" ] || fail "10 + 10 steps are not 20 steps"
cmp <(metric whole loss) <(metric parts loss) || fail "losses differ after the resume"

# Other masks are another run: the hint reaches the network from the second step on, when its weights are no longer 0.
expect 0 other.log "$vasily" train paint.yaml run.dir=other "${short[@]}" inpainting.whole=1e6
[ "$(metric whole loss | head -1)" = "$(metric other loss | head -1)" ] || fail "the widened model saw the mask at once"
! cmp -s <(metric whole loss) <(metric other loss) || fail "the masks make no difference"

# Held-out samples: the widened model begins with the figures of the model for text; training does not notice; what the
# masks leave changes the figures of a trained one.
mkdir held
"$make_test_shards" held 1 12 16
valid=(validation.every=10 'validation.sources=[{name: held, shards: ["held/000000.tar"]}]' validation.samples=6
    'validation.timesteps=[1, 400, 900]' validation.seed=3)
figures() { sed 's/"step": *[0-9]*, "weights": *"[a-z]*", //' "$1"; }
expect 0 valid.log "$vasily" train paint.yaml run.dir=valid "${short[@]}" "${valid[@]}"
"$vasily" validate text "${valid[@]}" --ema --json > text.jsonl 2> validate.log || fail "the model for text is not validated"
[ -s text.jsonl ] && cmp <(figures text.jsonl) <(sed -n 1p valid/validation.jsonl | figures /dev/stdin) ||
    fail "the widened model has other figures than the model for text"
[ "$(hashes valid/checkpoints/step-0000020)" = "$a" ] || fail "validation changes the weights"
"$vasily" validate valid --json > alone.jsonl 2> validate.log || fail "an inpainting model is not validated"
cmp alone.jsonl <(tail -n 2 valid/validation.jsonl) || fail "vasily validate has other figures than the trainer"
"$vasily" validate valid inpainting.whole=1e6 --json > hidden.jsonl 2> validate.log || fail "a validation without a hint"
! cmp -s alone.jsonl hidden.jsonl || fail "validation does not see the mask"

# Sample i has the same mask whatever the ranks and the micro-batch: the losses are one rank's up to rounding.
near() { # near RUN: the losses of a run are those of `whole`
    paste <(metric whole loss | head -6) <(metric "$1" loss | head -6) |
        awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-4 * $1) exit 1; n++ } END { exit n != 6 }' ||
        fail "$1 has other losses: $(paste <(metric whole loss) <(metric "$1" loss) | head -6)"
}
expect 0 ranks.log mpirun -n 2 "$vasily" train paint.yaml run.dir=ranks "${short[@]}" --stop-after 6
near ranks
expect 0 small.log "$vasily" train paint.yaml run.dir=small "${short[@]}" train.micro_batch=2 --stop-after 6
near small

# From an inpainting model's checkpoint nothing is widened.
expect 0 again.log "$vasily" train paint.yaml run.dir=again init.from=whole train.steps=1
! grep -q "widened" again.log || fail "an inpainting model was widened"

# From precomputed latents and text: the same masks, the same losses.
expect 0 precompute.log "$vasily" precompute paint.yaml frozen.latents=precomputed frozen.text=precomputed
expect 0 given.log "$vasily" train paint.yaml run.dir=given "${short[@]}" frozen.latents=precomputed \
    frozen.text=precomputed --stop-after 6
near given

# Previews: the whole picture is painted, or what preview.mask has black of preview.init.
"$picture_tool" make base.png 16 16 gradient
"$picture_tool" make mask.png 16 16 left
seen=(preview.every=1 preview.steps=2 'preview.prompts=["a"]' train.steps=1)
expect 0 seen.log "$vasily" train paint.yaml run.dir=seen "${seen[@]}"
[ -s seen/previews/step-0000001.png ] || fail "no preview"
expect 0 kept.log "$vasily" train paint.yaml run.dir=kept "${seen[@]}" preview.init=base.png preview.mask=mask.png
! cmp -s seen/previews/step-0000001.png kept/previews/step-0000001.png || fail "preview.init changes nothing"
expect 0 sample.log "$vasily" sample kept --prompt a --steps 2 --init base.png --mask mask.png --out painted.png
expect 0 same.log "$picture_tool" compare painted.png base.png 0 0 6 16 40 # what is kept, but for a column beside the hole

# The masks, drawn and counted; without a run.
expect 0 masks.log "$vasily" data masks paint.yaml inpainting.box=0 inpainting.stroke=0 inpainting.frame=0 \
    inpainting.polygon=3 --out masks.png --count 9
[ -s masks.png ] || fail "no sheet of masks"
awk '$1 == "polygon" { polygon = $3 + 0 } $1 == "whole" { whole = $3 + 0 } $1 == "box" { box = $3 + 0 }
    END { exit !(polygon > 73 && polygon < 77 && whole > 23 && whole < 27 && box == 0) }' masks.log ||
    fail "drawn are not 75% polygons and 25% whole: $(cat masks.log)"
# Asked and drawn are shares of the same masks: half of the three quarters that do not begin with whole.
awk '/more than one shape/ { asked = $5 + 0; drawn = $6 + 0 }
    END { exit !(asked == 37.5 && drawn > 35 && drawn < 40) }' masks.log || fail "not of the same masks: $(cat masks.log)"
! grep -q "does nothing" masks.log || fail "inpainting.more is said to do nothing"
for nothing in 'inpainting.box=0 inpainting.polygon=0 inpainting.stroke=0' inpainting.whole=1e6; do
    # shellcheck disable=SC2086 # words
    expect 0 masks.log "$vasily" data masks paint.yaml --out masks.png --count 1 $nothing inpainting.more=1
    awk '/more than one shape/ { seen = $5 == "0.0%" && $6 == "0.0%" } END { exit !seen }' masks.log ||
        fail "more than can come is asked: $(cat masks.log)"
    [ "$nothing" = inpainting.whole=1e6 ] || contains masks.log "inpainting.more, 1, does nothing here"
done
expect 0 masks.log "$vasily" data masks tiny.yaml --out text-masks.png --count 1 --first 7
contains masks.log "trains no inpainting model"

# Refusals.
refused() { # refused "words" key=value...
    local words=$1
    shift
    expect 2 refused.log "$vasily" train paint.yaml run.dir=none "$@"
    contains refused.log "$words"
    [ ! -e none/checkpoints ] || [ -z "$(ls none/checkpoints)" ] || fail "a refused run left a checkpoint"
    rm -rf none
}
refused "inpainting.box" inpainting.box=0 inpainting.polygon=0 inpainting.stroke=0 inpainting.frame=0 inpainting.whole=0
refused "inpainting.box_min" inpainting.box_min=0.9
refused "preview.init and preview.mask go together" preview.init=base.png
refused "preview.init and preview.mask go together" preview.mask=mask.png
refused "must be 12, or 25 for inpainting" model.in_channels=24
expect 2 refused.log "$vasily" train tiny.yaml run.dir=none preview.init=base.png preview.mask=mask.png
contains refused.log "not one for inpainting"
expect 2 refused.log "$vasily" data masks paint.yaml
contains refused.log "--out names the PNG"
expect 2 refused.log "$vasily" data masks paint.yaml --out masks.jpg
contains refused.log "let its name end in .png"
[ ! -e masks.jpg ] || fail "masks.jpg was written"
# A widened convolution that is held would never see anything; one that has learnt to may be.
refused "optim.groups[1]" 'optim.groups=[{match: out.*}, {match: "input_blocks.*", lr: 0}]'
contains refused.log "the network would never see either"
held=('optim.groups=[{match: "input_blocks.0.0.*", lr: 0}]' train.steps=1)
expect 0 held.log "$vasily" train paint.yaml run.dir=held-later init.from=whole "${held[@]}"
expect 0 held.log "$vasily" train paint.yaml run.dir=held-other "${held[@]}" \
    'optim.groups=[{match: input_blocks.0.0.weight}, {match: "input_blocks.*", lr: 0}]'
expect 0 held.log "$vasily" validate paint.yaml "${valid[@]}" "${held[@]}" # which trains nothing
# Nor may a resume hold what is zero still: it is as long as every mask has been the whole picture.
blank=(run.dir=blank inpainting.box=0 inpainting.polygon=0 inpainting.stroke=0 inpainting.frame=0 train.steps=2)
expect 0 blank.log "$vasily" train paint.yaml "${blank[@]}" --stop-after 1
expect 2 blank.log "$vasily" train paint.yaml "${blank[@]}" "${held[@]:0:1}" --resume auto
contains blank.log "optim.groups[0]"
expect 0 blank.log "$vasily" train paint.yaml "${blank[@]}" --resume auto
code=0
"$vasily" train paint.yaml run.dir=none2 "${seen[@]}" preview.init=absent.png preview.mask=mask.png > refused.log 2>&1 ||
    code=$?
[ $code != 0 ] || fail "a preview picture that is not there was taken"
contains refused.log "absent.png"
expect 6 refused.log "$vasily" train tiny.yaml run.dir=narrow init.from=whole train.steps=1
contains refused.log "input_blocks.0.0.weight (32,25,3,3), wanted (32,12,3,3)"
