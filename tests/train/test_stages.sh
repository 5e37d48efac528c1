#!/bin/bash
# A run of several stages: other resolution, batch, data; stopped before, at and after a switch it ends with the bits of
# the run that was never stopped, and two stages that differ in nothing are the run without stages.
emulated=${3:+$(readlink -f "$3")}
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

mkdir more
"$make_test_shards" more 2 24 16
sed '/^  steps: 60$/d; s/^  total_steps: 60$/  total_steps: 0/; s/every: 10$/every: 1000/' tiny.yaml > staged.yaml
cat >> staged.yaml <<'YAML'
stages:
  - name: small
    steps: 8
  - name: large
    steps: 6
    train: {resolution: 32, global_batch: 4, micro_batch: 2}
    data:
      text_dropout: 0.5
      sources:
        - {name: more, shards: ["more/{000000..000001}.tar"]}
    preview: {every: 4}
  - name: clean
    steps: 4
    data:
      filter: {where: [width >= 16]}
      sources:
        - {name: shapes, shards: ["shards/{000000..000003}.tar"]}
        - {name: more, shards: ["more/{000000..000001}.tar"], weight: 2}
YAML

train() { # train LOG arguments...: $launch, exit code 0
    local log=$1
    shift
    expect 0 "$log" "${launch[@]}" "$vasily" train "$@"
}
launch=()

same() { # same RUN RUN: weights, moments, average, and every number of every step
    local a b
    a=$(hashes "$1/checkpoints/latest") b=$(hashes "$2/checkpoints/latest")
    [ -n "$a" ] && [ "$a" = "$b" ] || fail "$1 and $2 end with other weights, moments or averages"
    for key in step loss mse vb lr beta1 grad_norm ema_decay samples stage loss_z grad_norm_z guard skipped_steps; do
        cmp <(metric "$1" $key) <(metric "$2" $key) || fail "$1 and $2 differ in $key"
    done
}

# Two stages that differ in nothing. Nobody else gets hold of the run before its end.
train plain.log tiny.yaml run.dir=plain train.steps=16 optim.total_steps=16
(
    until [ -e equal/config.yaml ] || [ ! -d "$work" ]; do sleep 0.01; done
    flock equal/lock tail -n 1 equal/metrics.jsonl > hold # waits until the lock is let go
) &
watcher=$!
train equal.log tiny.yaml run.dir=equal train.steps=16 optim.total_steps=16 \
    'stages=[{name: one, steps: 7}, {name: two, steps: 9}]'
wait $watcher
contains hold '"step": 16'
[ "$(metric equal stage | sort | uniq -c | tr '\n' ' ' | tr -s ' ')" = ' 7 "one" 9 "two" ' ] || fail "stages of metrics"
grep -q '"stage"' plain/metrics.jsonl && fail "a run without stages has stages in metrics.jsonl"
sed -i 's/"stage": "[a-z]*", //' equal/metrics.jsonl
same plain equal

# Stops before, at and after a switch, on 1 rank, and on 2 with a divided optimizer.
for ranks in 1 2; do
    launch=() more=()
    [ $ranks = 1 ] || launch=(mpirun -n "$ranks") more=(parallel.shard=all)
    train whole$ranks.log staged.yaml run.dir=whole$ranks "${more[@]}"
    train parts$ranks.log staged.yaml run.dir=parts$ranks "${more[@]}" --stop-after 6
    train before$ranks.log staged.yaml run.dir=parts$ranks "${more[@]}" --resume auto --stop-after 8
    train at$ranks.log staged.yaml run.dir=parts$ranks "${more[@]}" --resume auto --stop-after 11
    train after$ranks.log staged.yaml run.dir=parts$ranks "${more[@]}" --resume auto
    same whole$ranks parts$ranks
done
launch=()
[ "$(metric whole1 step | tail -1)" = 18 ] || fail "3 stages are not 18 steps"
[ "$(metric whole1 samples | sed -n '8p;14p;18p' | tr '\n' ' ')" = "64 88 120 " ] || fail "samples of the stages"
# The index of samples goes on over other batches: none is drawn twice with the same noise.
contains whole1/checkpoints/latest/state.json 'next_index\": 120'

# What was told: in the log, among the events, in the checkpoint, in the run's config.
contains whole1.log "stage small begins, 1 of 3: 16 pixels, batches of 8"
contains whole1.log "stage large begins, 2 of 3: 32 pixels, batches of 4; stage small has ended after 8 steps"
contains whole1.log "config: train.resolution: 16 -> 32"
contains whole1.log "config: train.global_batch: 8 -> 4"
contains whole1.log "config: data.sources[0].name: shapes -> more"
contains whole1.log "source more is new to this run and starts at its beginning"
[ "$(grep -c "is new to this run" whole1.log)" = 1 ] || fail "a source that was left out for a stage began anew"
contains whole1.log "large: step "
events() { # events RUN: starts, resumes, stages and ends in order
    sed -n 's/.*"kind": *"\(start\|resume\|stage\|stop\|end\)".*/\1/p' "$1/events.jsonl" | tr '\n' ' '
}
[ "$(events whole1)" = "start stage stage stage end " ] || fail "events: $(cat whole1/events.jsonl)"
[ "$(events parts1)" = "start stage end resume end resume stage end resume stage end " ] ||
    fail "events: $(cat parts1/events.jsonl)"
contains whole1/checkpoints/latest/state.json '"stage": {"name": "clean", "steps": 4, "seconds": '
contains whole1/checkpoints/latest/state.json '"ended": [{"name": "small", "step": 8, "seconds": '
"$vasily" config whole1/config.yaml > again.yaml 2> config.log || fail "the run's config is refused"
cmp again.yaml whole1/config.yaml || fail "the run's config does not round-trip"
contains whole1/config.yaml "  - name: clean"
contains whole1/config.yaml "total_steps: 18"
contains whole1/checkpoints/step-0000014/state.json 'resolution: 32' # what is sampled from it is of its stage

# Nothing is left to do; other stages than those it went through are refused, later ones may change.
train done.log staged.yaml run.dir=whole1 --resume auto
contains done.log "nothing to do: 18 steps are done, this run ends at 18; let the last stage be longer, or add one,"
train done.log staged.yaml run.dir=whole1 --resume auto --stop-after 3
contains done.log "this run ends at 18; raise --stop-after to go on"
same whole1 parts1
expect 2 renamed.log "$vasily" train staged.yaml run.dir=whole1 --resume auto stages[1].name=big
contains renamed.log "has gone through small, large, clean, and the config's stages are small, big, clean"
cp -r parts1 added
train added.log staged.yaml run.dir=added --resume auto 'stages[3]={name: last, steps: 2}'
[ "$(metric added stage | tail -2 | tr '\n' ' ')" = '"last" "last" ' ] || fail "a stage that was added is not trained"
contains added.log "the schedule stays one of 18 steps"
train none.log staged.yaml run.dir=added --resume auto 'stages=[]' train.steps=21
contains none.log "lies in stage last, and the config has no stages"
train counted.log tiny.yaml run.dir=plain --resume auto train.steps=19 'stages=[{name: one, steps: 7}, {name: two, steps: 12}]'
contains counted.log "by its steps it lies in stage two, with 9 steps done in it"
expect 2 short.log "$vasily" train staged.yaml run.dir=new stages[2].train.micro_batch=3
contains short.log "stage clean: train.micro_batch"
[ ! -e new ] || fail "a mistake in the last stage was found too late"

# Other steps of a stage that is done or in hand: the run ends where what was and what comes end, and says so. The last
# step of a process is told, whatever log_every is.
train shorter.log staged.yaml run.dir=shorter --stop-after 11
contains shorter.log "large: step 11/18 "
cp -r shorter earlier
train shorter.log staged.yaml run.dir=shorter --resume auto stages[1].steps=2
contains shorter.log "clean: step 15/15 "
contains shorter.log "the schedule stays one of 18 steps, not 15"
contains <(grep -A1 '^train:' shorter/config.yaml) "  steps: 15"
contains <(grep -A1 'name: large' shorter/config.yaml) "    steps: 3"
"$vasily" config shorter/config.yaml > again.yaml 2> config.log || fail "the config of a run of other steps is refused"
train earlier.log staged.yaml run.dir=earlier --resume auto stages[0].steps=1000
contains earlier.log "clean: step 18/18 "
! grep "past the schedule\|the schedule stays" earlier.log || fail "a stage that is done still counts with other steps"
contains <(grep -A1 '^train:' earlier/config.yaml) "  steps: 18"
"$vasily" config earlier/config.yaml > again.yaml 2> config.log || fail "the config of a run of other steps is refused"

# What a later stage will read is looked for at once; it may come until the stage begins.
mv more elsewhere
train absent.log staged.yaml run.dir=absent --stop-after 7 'stages[2].data.sources[1].shards=[none/*.tar]' \
    'stages[2].data.sources[1].name=none'
contains absent.log "stage large, which comes later: source more: 2 of 2 shards are not there yet, more/000000.tar and others"
contains absent.log "stage clean, which comes later: source none: no file matches none/*.tar"
expect 3 absent.log "$vasily" train staged.yaml run.dir=absent --resume auto
contains absent.log "more/000000.tar"
[ "$(readlink absent/checkpoints/latest)" = step-0000008 ] || fail "the stage before one without data is not saved"
mv elsewhere more
train absent.log staged.yaml run.dir=absent --resume auto
! grep "comes later" absent.log || fail "data that is there is missed"
same whole1 absent

# So are precomputed files, and the command that is named makes them: of the stage, not of what stands outside.
early=(staged.yaml run.dir=early 'stages[1].frozen.latents=precomputed')
train early.log "${early[@]}" --stop-after 8
contains early.log "2 of 2 files of precomputed latents are not there yet, more/000000.latents-32.h5 and others; the stage cannot begin without them; \`vasily precompute CONFIG --stage large\` makes them"
expect 3 early.log "$vasily" train "${early[@]}" --resume auto --stop-after 9
contains early.log "more/000000.latents-32.h5 does not exist"
contains early.log "\`vasily precompute CONFIG --stage large\` makes this file"
expect 0 early.log "$vasily" precompute "${early[@]}" --stage large
train early.log "${early[@]}" --resume auto --stop-after 9
contains early.log "large: step 9/18 "
rm more/*.h5

# So is the memory that it will take.
train huge.log staged.yaml run.dir=huge --stop-after 1 stages[1].train.resolution=8192
contains huge.log "stage large, which comes later: training takes "
contains huge.log "free for it"
[ "$(grep -c "comes later: training" huge.log)" = 1 ] || fail "more than one stage is said not to fit"
! grep -q "comes later" whole2.log || fail "stages that fit are said not to"

# One stage at a time.
expect 2 only.log "$vasily" train staged.yaml run.dir=only --only-stage large
contains only.log "--only-stage large: the run stands before stage small, after 0 steps"
expect 2 only.log "$vasily" train staged.yaml run.dir=only --only-stage lrage
contains only.log "there is no stage lrage; the config has: small, large, clean"
train only-small.log staged.yaml run.dir=only --only-stage small
[ "$(readlink only/checkpoints/latest)" = step-0000008 ] || fail "--only-stage does not stop at the stage's end"
expect 2 only.log "$vasily" train staged.yaml run.dir=only --resume auto --only-stage small
contains only.log "the run stands before stage large, after 8 steps"
train only-large.log staged.yaml run.dir=only --resume auto --only-stage large
train only-clean.log staged.yaml run.dir=only --resume auto --only-stage clean
same whole1 only

# A stage that is over no longer says on how many ranks the run may go on.
train over.log staged.yaml run.dir=over "stages[0].train.global_batch=5" --only-stage small
expect 2 over.log mpirun -n 2 "$vasily" train staged.yaml run.dir=new "stages[0].train.global_batch=5"
contains over.log "stage small: train.global_batch: 5 is not divisible by the 2 ranks"
train over.log staged.yaml run.dir=elsewhere-over "stages[0].train.global_batch=5" --stop-after 1
expect 2 over.log mpirun -n 2 "$vasily" train staged.yaml run.dir=elsewhere-over "stages[0].train.global_batch=5" --resume auto
launch=(mpirun -n 2)
train over.log staged.yaml run.dir=over "stages[0].train.global_batch=5" --resume auto
[ "$(metric over step | tail -1)" = 18 ] || fail "a run of two stages does not go on on two ranks"

# Days, that ranks agree on: the first stage ends with the step in which they are over.
train days.log staged.yaml run.dir=days optim.total_steps=1000 \
    'stages=[{name: timed, days: 4e-6}, {name: rest, steps: 3, train: {global_batch: 4}}]'
steps=$(metric days stage | grep -c timed)
[ "$steps" -ge 1 ] && [ "$(metric days step | tail -1)" = $((steps + 3)) ] || fail "$steps timed steps, and not 3 more"
contains days.log "stage rest begins, 2 of 2: 16 pixels, batches of 4; stage timed has ended after $steps steps"
seconds=$(sed -n 's/.*"ended": \[{"name": "timed", "step": '"$steps"', "seconds": \([0-9.e+-]*\)}.*/\1/p' days/checkpoints/latest/state.json)
awk -v s="$seconds" 'BEGIN { exit !(s >= 0.3456) }' || fail "the timed stage has ended after \"$seconds\" seconds"
train days-again.log staged.yaml run.dir=days optim.total_steps=1000 --resume auto \
    'stages=[{name: timed, days: 4e-6}, {name: rest, steps: 3, train: {global_batch: 4}}]'
contains days-again.log "nothing to do"
! grep "as optim.total_steps says" days.log days-again.log || fail "stages that were trained are said to be left out"
launch=()

# A run of days ends with the schedule: what is cut off by that is named, before where it is known, and at the end.
cut=('stages=[{name: one, steps: 1}, {name: timed, days: 1}, {name: rest, steps: 3}, {name: more, steps: 2}]')
train cut.log staged.yaml run.dir=cut optim.total_steps=3 "${cut[@]}"
contains cut.log "stage rest can have at most 1 of its 3 steps: the run ends with step 3, as optim.total_steps says, and the stages before it take 2 steps at least; raise optim.total_steps"
contains cut.log "stage more can have no step: "
[ "$(grep -c "can have " cut.log)" = 2 ] || fail "warnings of stages that the end cuts off"
contains cut.log "the run ends with step 3, as optim.total_steps says: stage timed has had "
contains cut.log " of its 1 days, stage rest has had no step, stage more has had no step; with a higher optim.total_steps, --resume auto goes on"
train cut-on.log staged.yaml run.dir=cut optim.total_steps=3 train.steps=4 --resume auto "${cut[@]}" stages[1].days=1e-9
contains cut-on.log "the run ends with step 4, as train.steps says: stage rest has had 1 of its 3 steps, stage more has had no step"
train cut-back.log staged.yaml run.dir=cut optim.total_steps=2 --resume auto "${cut[@]}" # less than there is
contains cut-back.log "nothing to do: 4 steps are done, this run ends at 2; raise optim.total_steps to go on"
contains cut-back.log "the run ends with step 2, as optim.total_steps says: "

# Previews: of the old stage at its end, of the new one at its begin, and when it is their turn; none of them changes a bit.
train drawn.log staged.yaml run.dir=drawn preview.every=5 'preview.prompts=[red circle]' preview.steps=2
[ "$(LC_ALL=C ls drawn/previews | tr '\n' ' ')" = "step-0000005.png step-0000008-large.png step-0000008.png step-0000012.png step-0000014-clean.png step-0000014.png step-0000015.png step-0000018.png " ] ||
    fail "previews: $(LC_ALL=C ls drawn/previews | tr '\n' ' ')"
same whole1 drawn

# Plan and data commands take a stage.
contains <("$vasily" plan staged.yaml 2> plan.log) "stage clean"
contains <("$vasily" plan staged.yaml --stage large 2> plan.log) "4 = 1 ranks x 2 micro-batches x 2"
contains <("$vasily" plan staged.yaml --json 2> plan.log) '"stages":'
contains <("$vasily" data order staged.yaml --steps 1 --stage clean 2> order.log) "more/"
expect 0 order.log "$vasily" data order staged.yaml --steps 1
contains order.log "--stage NAME takes one of them"

# On a device the old network's memory is given back before the new one is made; the losses are the processor's.
if [ -n "$emulated" ]; then
    two=(tiny.yaml train.steps=2 'stages=[{name: one, steps: 1}, {name: two, steps: 1, train: {global_batch: 2}}]' train.global_batch=4)
    train host.log "${two[@]}" run.dir=host
    export VASILY_CUDA_LIBRARY=$emulated VASILY_EMU_OPEN=1
    needed=$("$vasily" plan tiny.yaml train.global_batch=4 --device cuda --json 2> plan.log | sed -n 's/.*"device_bytes".*"total": *\([0-9]*\).*/\1/p')
    [ "$needed" -gt 1000000 ] || fail "the plan for a device has no total"
    VASILY_EMU_MEMORY=$((needed * 5 / 3)) train device.log "${two[@]}" run.dir=device --device cuda
    contains device.log "device: cuda: emulated device"
    paste <(metric host loss) <(metric device loss) |
        awk '{ d = $1 - $2; if (d < 0) d = -d; if (!($1 > 0) || d > 1e-4 * $1) exit 1 } END { exit NR != 2 }' ||
        fail "a device's losses over two stages: $(metric device loss), on the processor $(metric host loss)"
else
    echo "SKIPPED stages on a device: this build has no emulated one"
fi
