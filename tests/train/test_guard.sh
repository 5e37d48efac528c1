#!/bin/bash
# The guard in a run: z as computed here from the metrics, each action on weights that a huge learning rate has broken,
# decisions that a resume and a second rank repeat, and NaN in one rank alone.
poison_latents=$(readlink -f "$3")
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# column RUN KEY: of the steps, "-" where it is absent
column() {
    awk -v key="\"$2\": " '{ at = index($0, key); text = "-"
        if (at) { text = substr($0, at + length(key)); sub(/[,}].*/, "", text) } print text }' "$1/metrics.jsonl"
}
steps=(optim.schedule=constant guard.window=20 guard.warmup=10)

# ---- z, from the loss of the steps before ----
expect 0 base.log "$vasily" train tiny.yaml run.dir=base "${steps[@]}" --stop-after 40
[ "$(column base loss_z | grep -c -- -)" -ge 10 ] && [ "$(column base loss_z | head -10 | sort -u)" = - ] ||
    fail "z is there before half a window is"
for key in mse:loss_z grad_norm:grad_norm_z; do
    paste <(column base ${key%:*}) <(column base ${key#*:}) | awk '
        function median(a, n,   i, j, t) {
            for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t }
            return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
        }
        {
            n = NR - 1 < 20 ? NR - 1 : 20
            if ($2 != "-") {
                for (i = 1; i <= n; i++) w[i] = v[NR - i]
                m = median(w, n)
                for (i = 1; i <= n; i++) w[i] = v[NR - i] > m ? v[NR - i] - m : m - v[NR - i]
                s = 1.4826022185056018 * median(w, n)
                if (s < 0.01) s = 0.01
                d = (log($1) - m) / s - $2
                if (d > 1e-6 || d < -1e-6) { print "step " NR ": " $2 " instead of " (log($1) - m) / s; bad = 1 }
                checked++
            }
            v[NR] = log($1)
        }
        END { exit bad || checked != 30 }' || fail "z of $key is not what it is to be"
done
! grep -q '"guard"' base/metrics.jsonl || fail "an alarm without a cause"

# A stage may have other data, so what is usual is learnt anew, in a start of its own as well.
stages=(train.steps=27 'stages=[{name: a, steps: 15}, {name: b, steps: 12}]' guard.window=10)
expect 0 staged.log "$vasily" train tiny.yaml run.dir=staged "${stages[@]}"
expect 0 parted.log "$vasily" train tiny.yaml run.dir=parted "${stages[@]}" --stop-after 15
expect 0 parted.log "$vasily" train tiny.yaml run.dir=parted "${stages[@]}" --resume auto
[ "$(column staged loss_z | grep -nx -- - | cut -d : -f 1 | tr '\n' ' ')" = "1 2 3 4 5 16 17 18 19 20 " ] ||
    fail "z after a switch: $(column staged loss_z | tr '\n' ' ')"
cmp <(column staged loss_z) <(column parted loss_z) || fail "z after a stop at the switch"

# ---- weights that are broken ----
cp -r base log
expect 0 broken.log "$vasily" train tiny.yaml run.dir=log "${steps[@]}" --resume auto optim.max_lr=10 --stop-after 41
! grep -q '"guard"' log/metrics.jsonl || fail "an alarm before anything stood out"
cp -r log skip
cp -r log stop
goes_on() { # goes_on CODE RUN STEP SETTINGS...
    local code=$1 run=$2 step=$3
    shift 3
    expect "$code" "$run.log" "$vasily" train tiny.yaml run.dir="$run" "${steps[@]}" --resume auto --stop-after "$step" "$@"
}
goes_on 0 log 45
[ "$(column log guard | tail -4 | head -1)" = '"log"' ] || fail "step 42 did not stand out"
contains log.log "spreads above the usual"
contains log/events.jsonl '"kind": "guard"'
[ "$(column log skipped | sort -u)" = false ] || fail "guard.action: log has skipped a step"

goes_on 0 skip 45 guard.action=skip
[ "$(column skip guard | tail -4 | sort -u)" = '"skip"' ] || fail "steps 42 to 45 were not left out"
[ "$(column skip skipped | tail -5 | tr '\n' ' ')" = "false true true true true " ] || fail "skipped is not told"
[ "$(column skip skipped_steps | tail -1)" = 4 ] || fail "skipped steps are not counted"
cmp <(hashes skip/checkpoints/step-0000041) <(hashes skip/checkpoints/step-0000045) ||
    fail "steps that are left out change weights, moments or average"
contains skip/checkpoints/step-0000045/state.json '"adam_t": 41'
contains skip/checkpoints/step-0000045/state.json '"samples": 360'
# They were in a row before the resume and still are, so six more make ten.
goes_on 5 skip 60 guard.action=skip
contains skip.log "10 steps in a row were left out (guard.skips_in_a_row)"
tail -1 skip/events.jsonl | grep -q '"kind": "stop", "text": "an error: .*10 steps in a row' || fail "no event of the error: $(tail -1 skip/events.jsonl)"
[ "$(column skip step | tail -1)" = 51 ] || fail "the run did not end at step 51"
# The checkpoint of step 50 was being written when step 51 ended the run.
[ "$(readlink skip/checkpoints/latest)" = step-0000050 ] || fail "the newest checkpoint is $(readlink skip/checkpoints/latest)"
contains skip.log "the newest is of step 50"
contains skip.log "checkpoint of step 50 saved"

goes_on 5 stop 45 guard.action=stop
contains stop.log "step 42 stands out"
contains stop.log "guard.action=skip"
[ "$(column stop guard | tail -1)" = '"stop"' ] || fail "the last line of the metrics is not the step that stood out"
contains stop/events.jsonl "the run ends without the update"
[ "$(readlink stop/checkpoints/latest)" = step-0000041 ] || fail "a run that is stopped saves nothing"
expect 5 stop2.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=stop "${steps[@]}" --resume auto guard.action=stop
contains stop2.log "step 42 stands out"
[ "$(column stop step | tail -1)" = 42 ] || fail "two ranks did not write step 42"

# ---- limits so low that ordinary steps stand out: a resume and a second rank decide the same ----
low=(train.steps=40 guard.window=8 guard.warmup=0 guard.loss_z=0.3 guard.grad_norm_z=0.3 guard.action=skip guard.skips_in_a_row=100)
expect 0 whole.log "$vasily" train tiny.yaml run.dir=whole "${low[@]}"
expect 0 parts.log "$vasily" train tiny.yaml run.dir=parts "${low[@]}" --stop-after 23
expect 0 parts.log "$vasily" train tiny.yaml run.dir=parts "${low[@]}" --resume auto
expect 0 ranks.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=ranks "${low[@]}" parallel.shard=all parallel.compare_every=1
skipped=$(column whole guard | grep -c skip)
[ "$skipped" -gt 3 ] && [ "$skipped" -lt 30 ] || fail "$skipped steps were left out"
cmp <(hashes whole/checkpoints/step-0000040) <(hashes parts/checkpoints/step-0000040) || fail "23 + 17 steps are not 40"
for key in guard loss_z grad_norm_z; do
    cmp <(column whole $key) <(column parts $key) || fail "$key is another after the resume"
done
cmp <(column whole guard) <(column ranks guard) || fail "two ranks leave out other steps than one"

# ---- NaN in one rank: every rank leaves the step out ----
expect 0 precompute.log "$vasily" precompute tiny.yaml frozen.latents=precomputed
"$poison_latents" shards/000001.latents-16.h5 5 || fail "no latents to poison"
for shard in none all; do
    expect 0 nan-$shard.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=nan-$shard frozen.latents=precomputed \
        parallel.shard=$shard parallel.compare_every=1 --stop-after 24
    contains nan-$shard.log "gradients are not finite"
    contains nan-$shard/events.jsonl "gradients are not finite"
    [ "$(column nan-$shard skipped_steps | tail -1)" = "$(column nan-$shard skipped | grep -c true)" ] || fail "a miscount"
    [ "$(column nan-$shard skipped | grep -c true)" = 2 ] || fail "not one step of each epoch was left out"
    ! grep '"skipped": true' nan-$shard/metrics.jsonl | grep -q '"guard"' || fail "the guard acts on what is not finite"
    expect 0 inspect.txt "$vasily" inspect nan-$shard
    contains inspect.txt "0 NaN, 0 infinite"
done
cmp <(hashes nan-none/checkpoints/step-0000024) <(hashes nan-all/checkpoints/step-0000024) || fail "divided, other bits"
