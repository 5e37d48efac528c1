#!/bin/bash
# Validation: figures of an independent computation, the same for any batch, any number of ranks, inline and
# precomputed, by the trainer and by `vasily validate`; a run that is validated has the weights of one that is not, and
# after a stop the file goes on as if there had been none. $3: validation_reference.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
reference=$(readlink -f "$3")

mkdir held
"$make_test_shards" held 1 24 16
cat >> tiny.yaml <<'YAML'
validation:
  every: 4
  sources:
    - name: held
      shards: ["held/000000.tar"]
  samples: 9
  timesteps: [0, 1, 250, 700, 999]
  seed: 11
  batch: 4
YAML
none=validation.every=0
sed -i 's/max_lr: 1.0e-3/max_lr: 2.0e-2/' tiny.yaml # so that text and noise matter after a few steps

# figures FILE: every number of a validation.jsonl, a line each.
figures() { grep -oE '"(loss|mse|vb)": ?[-0-9.e]+|, ?[-0-9.e]+\]' "$1" | grep -oE '[-0-9][-0-9.e]*'; }
# near LIMIT FILE FILE: so many numbers, none of which differs relatively by more.
near() {
    paste "$2" "$3" | awk -v limit="$1" -v name="$3 and $2" '
        NF != 2 { exit 1 }
        { d = ($1 - $2) / ($2 == 0 ? 1 : $2); if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "%s: worst relative difference of %d figures %.2g\n", name, n, worst
              if (n == 0 || !(worst <= limit)) exit 1 }'
}

# Training does not notice: the same losses, weights, moments and average to the bit.
expect 0 bare.log "$vasily" train tiny.yaml train.steps=16 run.dir=bare $none
expect 0 run.log "$vasily" train tiny.yaml train.steps=16 run.dir=run
[ ! -e bare/validation.jsonl ] || fail "validation that was not asked for"
cmp <(metric bare loss) <(metric run loss) || fail "validation changes the losses"
cmp <(hashes bare/checkpoints/latest) <(hashes run/checkpoints/latest) || fail "validation changes the weights"
[ "$(metric run allocations | tail -n +2 | sort -u)" = 0 ] || fail "steps allocate"
[ "$(grep -o '"step": *[0-9]*' run/validation.jsonl | grep -o '[0-9]*$' | tr '\n' ' ')" = "0 0 4 4 8 8 12 12 16 16 " ] ||
    fail "validated at other steps"
[ "$(sed -n 's/"live"/"ema"/; 1p' run/validation.jsonl)" = "$(sed -n 2p run/validation.jsonl)" ] ||
    fail "at step 0 the average is not the weights"
contains run.log "validation of step 16: loss"
contains run/events.jsonl '"validation"'
"$vasily" plan tiny.yaml > plan.txt 2> plan.log || fail "no plan"
contains plan.txt "validation   "

# The figures: those of the reference, and not those of a poisoned one.
"$vasily" validate run --no-ema --json > live.jsonl 2> validate.log || fail "vasily validate"
figures live.jsonl > live
"$reference" run > reference.txt 2> reference.log || fail "no reference"
awk '{ v[$1] = $2 } $1 == "timestep" { t[++n] = $2 }
     END { print v["loss"]; print v["mse"]; print v["vb"]; for (k = 1; k <= n; k++) print t[k] }' reference.txt > wanted
near 5e-6 wanted live || fail "the figures are not those of the reference"
for poison in noise text; do
    "$reference" run $poison > poisoned.txt 2> reference.log || fail "no reference"
    awk '{ v[$1] = $2 } END { print v["loss"] }' poisoned.txt > poisoned
    ! near 5e-4 poisoned <(head -1 live) || fail "other noise or no text ($poison) would not be noticed"
done
# Evenly spaced timesteps are the middles of equal parts.
"$vasily" validate run --no-ema --json 'validation.timesteps=[]' validation.timestep_count=4 > spaced.jsonl \
    2> validate.log || fail "vasily validate"
contains spaced.jsonl "[[125,"
contains spaced.jsonl "[875,"

# By itself: the lines that the trainer wrote, in any batch and shared by any number of ranks.
tail -2 run/validation.jsonl > last
expect 0 validate.log "$vasily" validate run
contains validate.log "moving average"
"$vasily" validate run --json > alone.jsonl 2> validate.log || fail "vasily validate"
cmp last alone.jsonl || fail "vasily validate has other figures than the trainer"
mpirun -n 3 "$vasily" validate run --json > ranks.jsonl 2> validate.log || fail "3 ranks"
cmp last ranks.jsonl || fail "3 ranks have other figures"
figures last > wanted
for batch in 7 100; do
    "$vasily" validate run --json validation.batch=$batch > batch.jsonl 2> validate.log || fail "a batch of $batch"
    near 2e-6 wanted <(figures batch.jsonl) || fail "figures depend on the batch"
done
"$vasily" validate run/checkpoints/step-0000010 --ema --json > ema.jsonl 2> validate.log || fail "one checkpoint"
[ "$(wc -l < ema.jsonl)" = 1 ] || fail "--ema gives other lines, too"
contains ema.jsonl '"step": 10, "weights": "ema"'
# A config measures any weights.
printf 'init:\n  from: run\n' > init.part
cat tiny.yaml init.part > from.yaml
"$vasily" validate from.yaml --json > from.jsonl 2> validate.log || fail "a config"
cmp <(sed 's/"step": *[0-9]*//' last) <(sed 's/"step": *[0-9]*//' from.jsonl) || fail "a config has other figures"

# Stops leave no trace in the file: between two validations, where one is due, and where a kill has torn one.
expect 0 cut.log "$vasily" train tiny.yaml train.steps=16 run.dir=cut --stop-after 6
expect 0 cut.log "$vasily" train tiny.yaml train.steps=16 run.dir=cut --stop-after 12 --resume auto
sed -i '$d' cut/validation.jsonl # the second line of step 12
printf '{"step": 12, "wei' >> cut/validation.jsonl
expect 0 cut.log "$vasily" train tiny.yaml train.steps=16 run.dir=cut --resume auto
cmp run/validation.jsonl cut/validation.jsonl || fail "a run that was stopped has another validation.jsonl"
cmp <(hashes run/checkpoints/latest) <(hashes cut/checkpoints/latest) || fail "a validated run is not resumed exactly"
expect 0 back.log "$vasily" train tiny.yaml train.steps=16 run.dir=cut --resume cut/checkpoints/step-0000010
cmp run/validation.jsonl cut/validation.jsonl || fail "going back leaves later lines"

# Stages: each measures at its own resolution, after a stop between them, too.
sed '/^  steps: 60$/d; s/^  total_steps: 60$/  total_steps: 0/' tiny.yaml > staged.yaml
cat >> staged.yaml <<'YAML'
stages:
  - {name: small, steps: 4}
  - {name: large, steps: 3, train: {resolution: 32}}
YAML
expect 0 staged.log "$vasily" train staged.yaml run.dir=staged
expect 0 staged_cut.log "$vasily" train staged.yaml run.dir=staged_cut --stop-after 4
expect 0 staged_cut.log "$vasily" train staged.yaml run.dir=staged_cut --resume auto
[ "$(grep -o '"step": *[0-9]*' staged/validation.jsonl | grep -o '[0-9]*$' | tr '\n' ' ')" = "0 0 4 4 7 7 " ] ||
    fail "stages are validated at other steps"
cmp staged/validation.jsonl staged_cut/validation.jsonl || fail "a stop between stages has another validation.jsonl"
tail -2 staged/validation.jsonl > last
"$vasily" validate staged --json > alone.jsonl 2> validate.log || fail "a run of stages"
cmp last alone.jsonl || fail "vasily validate has other figures of a stage than the trainer"

# 1, 2 and 3 ranks train; with a divided optimizer the average is put together for it.
wide=(train.steps=4 data.lanes=12 train.global_batch=12 train.micro_batch=2)
expect 0 one.log "$vasily" train tiny.yaml "${wide[@]}" run.dir=one
for ranks in 2 3; do
    expect 0 ranks.log mpirun -n $ranks "$vasily" train tiny.yaml "${wide[@]}" run.dir=ranks$ranks
    near 1e-5 <(figures one/validation.jsonl) <(figures ranks$ranks/validation.jsonl) ||
        fail "$ranks ranks train to other figures"
done
expect 0 all.log mpirun -n 2 "$vasily" train tiny.yaml "${wide[@]}" run.dir=all parallel.shard=all
cmp ranks2/validation.jsonl all/validation.jsonl || fail "a divided optimizer has other figures"
expect 0 all.log mpirun -n 2 "$vasily" train tiny.yaml "${wide[@]}" run.dir=all_bare parallel.shard=all $none
cmp <(hashes all/checkpoints/latest) <(hashes all_bare/checkpoints/latest) ||
    fail "validation changes the weights of a divided optimizer"

# Precomputed latents and text, held-out shards included.
frozen=(frozen.latents=precomputed frozen.text=precomputed)
expect 0 precompute.log "$vasily" precompute tiny.yaml "${frozen[@]}"
[ -s held/000000.text.h5 ] || fail "held-out shards are not precomputed"
expect 0 files.log "$vasily" train tiny.yaml "${wide[@]}" run.dir=files "${frozen[@]}"
near 1e-6 <(figures one/validation.jsonl) <(figures files/validation.jsonl) || fail "precomputed data have other figures"

# Two words to the trainer while it measures: the first ends it, the next start takes it up.
long=(run.dir=long train.steps=8 validation.samples=24 'validation.timesteps=[]' validation.timestep_count=1000 validation.batch=1)
"$vasily" train tiny.yaml "${long[@]}" > long.log 2>&1 &
trainer=$!
for _ in $(seq 600); do
    grep -qs "held-out samples read" long.log && break
    sleep 0.1
done
sleep 0.5
kill -USR1 $trainer
for _ in $(seq 1200); do
    kill -0 $trainer 2> /dev/null || break
    sleep 0.1
done
if kill -9 $trainer 2> /dev/null; then fail "a signal does not end a validation"; fi
code=0
wait $trainer || code=$?
[ $code = 75 ] || fail "a signal during validation ends with $code, not 75"
contains long.log "is left for the next start"
[ ! -s long/validation.jsonl ] || fail "an unfinished validation has left a line"

# Mistakes
mistake() { # mistake CODE "words" overrides...
    local code=$1 words=$2
    shift 2
    expect "$code" mistake.log "$vasily" train tiny.yaml run.dir=none train.steps=1 "$@"
    contains mistake.log "$words"
}
mistake 2 "validation.samples is 25, and validation.sources have 24" validation.samples=25
mistake 2 "validation.timesteps[1]: 1000 is none of the noise process" 'validation.timesteps=[5, 1000]'
mistake 2 "validation.timesteps[2]: 5 is there twice" 'validation.timesteps=[5, 1, 5]'
mistake 2 "a source of training is called shapes" 'validation.sources=[{name: shapes, shards: [held/000000.tar]}]'
mistake 3 "held/absent.tar" 'validation.sources=[{name: held, shards: [held/absent.tar]}]'
mistake 3 "validation.sources: source held: no file matches" 'validation.sources=[{name: held, shards: ["held/no*.tar"]}]'
tar cf nothing.tar -T /dev/null
mistake 2 "validation: source held: its shards have no samples" 'validation.sources=[{name: held, shards: [nothing.tar]}]'
mistake 2 "validation.sources[0]" 'validation.sources=[{name: held, shards: []}]'
expect 2 mistake.log "$vasily" validate run 'validation.sources=[]'
contains mistake.log "give held-out shards"
expect 2 mistake.log "$vasily" validate run --ema --no-ema
expect 0 overlap.log "$vasily" train tiny.yaml run.dir=overlap train.steps=1 'data.sources=[{name: all, shards: ["shards/*.tar", "held/../held/*.tar"]}]'
contains overlap.log "1 of 1 shards (such as held/000000.tar) are in data.sources, too"
! grep -q "are in data.sources, too" run.log || fail "a warning of shards that are held out"

# Stages: what is due at the end of one is measured as it trains, whether the process goes on with the next or not; the
# end of the run is measured also where days say when it comes.
stages='stages=[{name: small, steps: 4}, {name: large, steps: 3, train: {resolution: 32, global_batch: 4}}]'
sed -i '/^  steps: 60$/d; s/^  total_steps: 60$/  total_steps: 0/' tiny.yaml
expect 0 stages.log "$vasily" train tiny.yaml run.dir=stages "$stages"
expect 0 halves.log "$vasily" train tiny.yaml run.dir=halves "$stages" --only-stage small
expect 0 halves.log "$vasily" train tiny.yaml run.dir=halves "$stages" --resume auto
cmp stages/validation.jsonl halves/validation.jsonl || fail "a stop between two stages changes what is validated"
# As a kill between the last checkpoint of a stage and its validation leaves it: without the lines, or with the first.
for kept in 0 1; do
    rm -rf killed
    expect 0 killed.log "$vasily" train tiny.yaml run.dir=killed "$stages" --only-stage small
    grep -v '"step": *4,' halves/validation.jsonl > killed/validation.jsonl
    sed -i '/"step": *7,/d' killed/validation.jsonl
    grep '"step": *4,' halves/validation.jsonl | sed -n "1,${kept}p" >> killed/validation.jsonl
    [ "$kept" = 0 ] || printf '{"step": 4, "weights": "ema", "lo' >> killed/validation.jsonl # torn
    # The same command again; another folder, with nothing to make up for, and one that was validated before.
    cp -a killed small
    expect 0 small.log "$vasily" train tiny.yaml run.dir=small "$stages" --resume auto --only-stage small
    cmp small/validation.jsonl <(grep -v '"step": *7,' stages/validation.jsonl) || fail "--only-stage leaves a validation out"
    for before in no yes; do
        rm -rf path
        mkdir path
        [ $before = no ] || cp killed/validation.jsonl path/
        expect 0 path.log "$vasily" train tiny.yaml run.dir=path "$stages" --resume killed/checkpoints/step-0000004
        [ "$(grep -c "is over, but for the validation" path.log)" = $([ $before = no ] && echo 0 || echo 1) ] ||
            fail "validated before: $before"
        [ "$(metric path step | xargs)" = "5 6 7" ] || fail "--resume PATH has gone on with $(metric path step | xargs)"
    done
    # From what was set aside in the run's own folder, which gets its name back, and then goes on.
    rm -rf path
    cp -a killed path
    mv path/checkpoints/step-0000004 path/checkpoints/step-0000004.set-aside
    expect 0 path.log "$vasily" train tiny.yaml run.dir=path "$stages" --resume path/checkpoints/step-0000004.set-aside
    contains path.log "is over, but for the validation"
    [ "$(hashes stages/checkpoints/step-0000007)" = "$(hashes path/checkpoints/step-0000007)" ] || fail "set aside: other weights"
    rm -rf small
    only=()
    [ "$kept" = 0 ] || only=(--only-stage large)
    expect 0 killed.log "$vasily" train tiny.yaml run.dir=killed "$stages" --resume auto "${only[@]}"
    contains killed.log "stage small is over, but for the validation of its last step, 4"
    ! grep -q "nothing to do" killed.log || fail "a validation that is made up for is called nothing"
    cmp stages/validation.jsonl killed/validation.jsonl || fail "what a kill at a stage's end left out is measured otherwise"
    [ "$(hashes stages/checkpoints/step-0000007)" = "$(hashes killed/checkpoints/step-0000007)" ] || fail "other weights"
    [ "$(grep -c '"stage large begins' killed/events.jsonl)" = 1 ] || fail "events: $(cat killed/events.jsonl)"
done
# Where that stage's batch is not for the ranks of now, it is measured as the next stage.
expect 0 odd.log "$vasily" train tiny.yaml run.dir=odd "$stages" train.global_batch=5 stages[1].train.global_batch=4 --only-stage small
sed -i '/"step": *4,/d' odd/validation.jsonl
expect 0 odd.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=odd "$stages" train.global_batch=5 stages[1].train.global_batch=4 --resume auto
contains odd.log "the validation of step 4, the last of stage small, is measured as the stage that follows: "
[ "$(grep -c '"step": *4,' odd/validation.jsonl)" = 2 ] || fail "a validation is lost"
# Without validation nothing is owed.
expect 0 none.log "$vasily" train tiny.yaml run.dir=none "$stages" --only-stage small
sed -i '/"step": *4,/d' none/validation.jsonl
expect 0 none.log "$vasily" train tiny.yaml run.dir=none "$stages" --resume auto $none
! grep -q "is over, but for the validation" none.log || fail "validation.every=0 does not let the run go on without"
[ "$(grep -o '"step": *[0-9]*' stages/validation.jsonl | grep -o '[0-9]*$' | tr '\n' ' ')" = "0 0 4 4 7 7 " ] ||
    fail "a run of stages is validated at other steps"
"$vasily" validate stages/checkpoints/step-0000004 --json > small.jsonl 2> validate.log || fail "vasily validate of a stage"
cmp small.jsonl <(grep '"step": *4,' stages/validation.jsonl) || fail "a stage's end is not validated as the stage is"
expect 0 days.log "$vasily" train tiny.yaml run.dir=days validation.every=1000 optim.total_steps=1000 \
    'stages=[{name: timed, days: 1.0e-6}]'
[ "$(grep -o '"step": *[0-9]*' days/validation.jsonl | tail -1 | grep -o '[0-9]*$')" = "$(metric days step | tail -1)" ] ||
    fail "the end of a run of days is not validated"
