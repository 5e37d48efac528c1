#!/bin/bash
# From a run to pictures and weight files.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

expect 0 train.log "$vasily" train tiny.yaml train.steps=10 preview.every=5 preview.steps=3 \
    'preview.prompts=["en\tred circle", "de\tblau quadrat", "no label"]'
for file in config.yaml metrics.jsonl checkpoints/latest/state.json previews/step-0000005.png previews/step-0000010.png; do
    [ -s run/$file ] || fail "run/$file is missing"
done
expect 0 config.log "$vasily" config run/config.yaml # what was written is a config again
"$vasily" config tiny.yaml optim.total_steps=0 train.steps=33 > full.yaml
contains full.yaml "total_steps: 33" # a config written out keeps its schedule

# One value, as it is; and as another command has it, whose command line is looked at as that command would.
value() { # EXPECTED ARGUMENT...
    local found
    found=$("$vasily" config "${@:2}" 2> value.log) || fail "vasily config ${*:2}"
    [ "$found" = "$1" ] || fail "vasily config ${*:2}: $found instead of $1"
}
value 'a "b" \c' --value run.dir tiny.yaml 'run.dir="a \"b\" \\c"'
value "" --value frozen.path tiny.yaml
value cpu --value device.name --for train -- tiny.yaml --device cpu --stop-after 5
value data/v=1/fz --value frozen.path --for precompute -- tiny.yaml frozen.path=other --out data/v=1/fz --captions 4
value kept --value frozen.path --for precompute -- tiny.yaml frozen.path=kept
stages='stages=[{name: a, steps: 30, frozen: {path: of-a}}, {name: b, steps: 30}]'
value of-a --value frozen.path --for precompute -- tiny.yaml "$stages" --stage=a
refused() { # TEXT ARGUMENT...
    expect 2 refused.log "$vasily" config "${@:2}"
    contains refused.log "$1"
}
refused "run.dri: the config has no such key; did you mean run.dir?" --value run.dri tiny.yaml
refused "run: is a section" --value run tiny.yaml
refused "usage: vasily config" --value run.dir
refused "usage: vasily train CONFIG" --for train
refused "--for takes one of train, precompute, not \"sample\"" --for sample tiny.yaml
refused "vasily train: there is no option --foo" --for train -- tiny.yaml --foo
refused "data.filter.where[0]: " --for precompute -- tiny.yaml 'data.filter.where=["widht > 3"]'
refused "data.tokenizer1.max_tokens: " --for precompute -- tiny.yaml data.tokenizer1.max_tokens=9
refused "vasily precompute: there is no option --stop-after" --for precompute -- tiny.yaml --stop-after 5
refused "vasily train: --stop-after takes a whole number" --for train -- tiny.yaml --stop-after=soon
refused "vasily train: \"more\" is one argument too many" --for train -- tiny.yaml more
refused "there is no stage c; the config has: a, b" --for train -- tiny.yaml "$stages" --only-stage c

# The same seed and captions give the same picture, whatever the batch; another seed or the raw weights, another.
draw() { # draw OUT options...
    local out=$1
    shift
    expect 0 sample.log "$vasily" sample run --prompt "red circle" --prompt "de	blau" --steps 4 --scale 2 --out "$out" "$@"
}
draw a.png
draw b.png --batch 1
draw c.png --seed 5
draw d.png --no-ema
draw e.png --sampler ddpm --threshold 0
draw each --eta 1
cmp a.png b.png || fail "the batch changes the picture"
for other in c d e; do ! cmp -s a.png $other.png || fail "a.png and $other.png are the same"; done
[ -s each/0000.png ] && [ -s each/0001-de.png ] || fail "a folder of pictures: $(ls each)"
for text in prompt "blau" steps scale sampler checkpoint; do contains a.png "$text"; done
printf 'en\tred square\n\nblue cross\n' > prompts.txt
expect 0 file.log "$vasily" sample run/checkpoints/latest --prompts prompts.txt --count 2 --steps 2 --out grid.png
expect 2 nothing.log "$vasily" sample run --steps 2
expect 2 many.log "$vasily" sample run --prompt x --steps 5000

# A run's folder can be moved, and is sampled from anywhere.
mkdir elsewhere && mv run elsewhere/moved
(cd elsewhere && expect 0 moved.log "$vasily" sample moved --prompt "red circle" --prompt "de	blau" --steps 4 --scale 2 \
    --out moved.png)
[ -s elsewhere/moved.png ] || fail "no picture from a moved run"

# Weights that leave through export come back through probe: both read the same network.
expect 0 export.log "$vasily" export elsewhere/moved --out weights.safetensors
expect 0 export.log "$vasily" export elsewhere/moved --out half.safetensors --weights --dtype bf16
[ "$(stat -c %s half.safetensors)" -lt "$(stat -c %s weights.safetensors)" ] || fail "bf16 is not smaller than f32"
contains weights.safetensors "input_blocks.0.0.weight"
expect 2 export.log "$vasily" export elsewhere/moved

expect 0 bench.json "$vasily" bench step tiny.yaml --steps 2 --warmup 1
"$vasily" bench step tiny.yaml --steps 2 --warmup 1 --json > bench.json 2> bench.log || fail "bench --json"
for key in images_per_second gflops matmul_peak_gflops share_of_peak ops; do contains bench.json "\"$key\""; done
expect 0 data.txt "$vasily" bench data tiny.yaml --seconds 0.3 --peak
contains data.txt "bare loop over"
"$vasily" bench data tiny.yaml --seconds 0.2 --json > data.json 2> data.log || fail "bench data --json"
for key in samples_per_second bytes_per_second stages sources; do contains data.json "\"$key\""; done
