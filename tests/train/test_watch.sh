#!/bin/bash
# What a run writes for those who look at it: TensorBoard's event files over a stop and a resume, report.html, plan.json,
# `vasily report`, `vasily compare`; and that none of it changes what is trained.
# $3: event_dump.
event_dump=$(readlink -f "$3")
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
run=(preview.every=10 'preview.prompts=["en\ta square </script>", circle]' preview.steps=2 watch.every=5)

mkdir held
"$make_test_shards" held 1 24 16
cat >> tiny.yaml <<'YAML'
validation:
  every: 10
  sources:
    - name: held
      shards: ["held/000000.tar"]
  samples: 4
  timesteps: [1, 500]
YAML

# 25 steps, a stop, a step back to the checkpoint of step 20, and on to 40; beside it a run that writes nothing.
expect 0 first.log "$vasily" train tiny.yaml run.dir=watched "${run[@]}" --stop-after 25
[ -f watched/report.html ] || fail "no report after the first part"
rm -r watched/checkpoints/step-0000025
expect 0 second.log "$vasily" train tiny.yaml run.dir=watched "${run[@]}" train.steps=40 --resume auto
expect 0 plain.log "$vasily" train tiny.yaml run.dir=plain train.steps=40 validation.every=0 watch.tensorboard=false \
    watch.report=false
cmp <(hashes watched/checkpoints/latest) <(hashes plain/checkpoints/latest) || fail "watching changes what is trained"
[ ! -e plain/tensorboard ] || fail "event files although they are turned off"
[ ! -e plain/report.html ] || fail "written although it is turned off"

mapfile -t files < <(ls watched/tensorboard/events.out.tfevents.*)
[ ${#files[@]} = 2 ] || fail "${#files[@]} event files of two starts"
"$event_dump" "${files[0]}" > one || fail "the first event file is not whole"
"$event_dump" "${files[1]}" > two || fail "the second event file is not whole"
[ "$(grep -w start one)" = "1 start" ] || fail "the first start: $(grep -w start one)"
[ "$(grep -w start two)" = "21 start" ] || fail "the start from step 20: $(grep -w start two)"
[ "$(awk '$2 == "train/loss" { print $1 }' one | tr '\n' ' ')" = "5 10 15 20 25 " ] || fail "steps of the first file"
[ "$(awk '$2 == "train/loss" { print $1 }' two | tr '\n' ' ')" = "25 30 35 40 " ] || fail "steps of the second file"
# The newest file's values are those of metrics.jsonl, to the precision of a float.
for pair in loss=train/loss grad_norm=train/grad_norm lr=train/lr step_seconds=speed/step_seconds \
    data_wait_seconds=data/wait_seconds peak_bytes=memory/peak_bytes; do
    paste <(metric watched "${pair%=*}") <(metric watched step) | awk -v tag="${pair#*=}" '
        NR == FNR { if ($2 == tag) { value[$1] = $3; n++ } next }
        $2 in value { d = value[$2] - $1; if (d < 0) d = -d; if (d > 1e-6 * ($1 < 0 ? -$1 : $1)) { print $2, value[$2], $1; bad++ } else good++ }
        END { exit !(n == 4 && good == 4 && bad == 0) }' two - || fail "${pair#*=} is not ${pair%=*} of metrics.jsonl"
done
# Validation: also what came before the first step, and after the last.
for weights in live ema; do
    [ "$(awk -v tag=validation/loss_$weights '$2 == tag { print $1 }' one two | tr '\n' ' ')" = "0 10 20 30 40 " ] ||
        fail "steps of validation: $(grep validation/loss one two)"
    grep -q "^40 validation_by_timestep_$weights/0500 " two || fail "no losses by timestep"
done
paste -d' ' <(sed -n 's/.*"step": *30,.*"weights": *"ema", *"loss": *\([^,]*\),.*/\1/p' watched/validation.jsonl) \
    <(awk '$1 == 30 && $2 == "validation/loss_ema" { print $3 }' two) |
    awk '{ d = $1 - $2; if (d < 0) d = -d; exit !(NF == 2 && d <= 1e-6 * $1) }' || fail "another validation loss"
grep -q "^0 config text [1-9]" one || fail "no config in the event file"
for step in 10 20; do grep -q "^$step previews image " one || fail "no preview of step $step"; done
for step in 30 40; do
    grep -q "^$step previews image .* $(stat -c %s watched/previews/step-00000$step.png)$" two || fail "no preview of step $step"
done

# The report is what `vasily report` makes of the files, which are all that it is made of.
expect 0 report.log "$vasily" report watched --out again.html
cmp watched/report.html again.html || fail "the last report is not of the finished run"
cp -r watched moved
expect 0 moved.log "$vasily" report moved
grep -q '<title>moved</title>' moved/report.html || fail "the report of a moved run"
for text in "a square &lt;/script&gt;" "data:image/png;base64," 'class="mark resume"' "id=\"loss\"" \
    '; ended: all steps' 'id="validation"' 'id="timesteps"' 'class="mark saved"' "Parameters"; do
    contains watched/report.html "$text"
done
! grep -q 'https\?://\|src="[^d]' watched/report.html || fail "the report fetches something"
[ "$(grep -c '<script' watched/report.html)" = 1 ] || fail "scripts that are not ours"
contains watched/plan.json '"parameters"'

# Two stages in one process: the second one's numbers follow the first one's, none is there twice.
cat > stages.yaml <<'YAML'
stages:
  - {name: first, steps: 8}
  - name: last
    steps: 7
    train: {global_batch: 4}
YAML
cat tiny.yaml >> stages.yaml
sed -i '/^  steps: 60/d' stages.yaml
expect 0 stages.log "$vasily" train stages.yaml run.dir=staged validation.every=4 watch.every=1 preview.every=0
for file in staged/tensorboard/*; do "$event_dump" "$file" || fail "$file is not whole"; done > staged.txt
cmp <(awk '$2 == "train/loss" { print $1 }' staged.txt) <(seq 15) || fail "steps of two stages in the event files"
cmp <(awk '$2 == "validation/loss_ema" { print $1 }' staged.txt) \
    <(sed -n 's/.*"step": *\([0-9]*\),.*"ema".*/\1/p' staged/validation.jsonl) || fail "validations of two stages"
contains staged/report.html 'class="mark stage"'
contains staged/report.html '<p>15 steps'

expect 0 compare.log "$vasily" compare watched plain --out compare.html
grep -q '^steps .*40 .*40' compare.log || fail "steps in the comparison: $(cat compare.log)"
grep -q '^watch.report .*true .*false' compare.log || fail "differences in the comparison"
contains compare.html 'id="loss"'

# Mistakes.
expect 3 none.log "$vasily" report nowhere
contains none.log "no such folder"
expect 3 shards.log "$vasily" report shards
contains shards.log "not the folder of a run"
expect 2 few.log "$vasily" compare watched
expect 2 config.log "$vasily" train tiny.yaml run.dir=wrong watch.every=0
contains config.log "watch.every"

# Where nothing can be written, a warning each, and the run goes on to its end.
mkdir -p blocked/report.html
echo x > blocked/tensorboard
expect 0 blocked.log "$vasily" train tiny.yaml run.dir=blocked train.steps=40 checkpoint.every=10
[ "$(grep -c 'no more is written for TensorBoard' blocked.log)" = 1 ] || fail "warnings about TensorBoard"
[ "$(grep -c 'the report is not written' blocked.log)" = 1 ] || fail "warnings about the report"
cmp <(hashes blocked/checkpoints/latest) <(hashes plain/checkpoints/latest) || fail "another result"

# Two ranks: one of them writes.
expect 0 ranks.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=ranks train.steps=10
events=(ranks/tensorboard/*)
[ ${#events[@]} = 1 ] || fail "event files of two ranks: ${events[*]}"
echo "event files, reports and comparisons agree with the runs"
