#!/bin/bash
# Fine-tuning: parameters that are held keep every value, on 1 and 2 ranks and with the optimizer divided; resuming is
# exact; what is held costs neither norm nor work; a run goes on with another's optimizer; mistakes are named.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# tensors RUN PART: a line a tensor, with the statistics of its values
tensors() {
    "$vasily" inspect "$1" --json --part "$2" | grep -o '{"name"[^}]*}' | sort
}
# changed RUN OTHER PART: names of the tensors whose values differ
changed() {
    comm -3 <(tensors "$1" "$3") <(tensors "$2" "$3") | sed -n 's/.*"name": "\([^"]*\)".*/\1/p' | sort -u
}

expect 0 base.log "$vasily" train tiny.yaml run.dir=base train.steps=6
names=$(tensors base weights | sed -n 's/.*"name": "\([^"]*\)".*/\1/p')

# ---- patterns: what matches is held or slow, the rest is trained ----
held='input_blocks\.|.*\.norm'
groups='optim.groups=[{match: "input_blocks.*", lr: 0}, {match: "*.encoder_kv.*", lr: 0.1, weight_decay: 0}, {match: "*.norm*", lr: 0}]'
from=(init.from=base init.ema=false train.steps=8 checkpoint.every=4)
expect 0 tuned.log "$vasily" train tiny.yaml run.dir=tuned "${from[@]}" "$groups"
contains tuned.log "optim.groups[0]: input_blocks.*"
contains tuned.log "held as they are"
contains tuned.log "elements are trained"
for part in weights ema; do
    cmp <(changed base tuned $part) <(grep -vE "^($held)" <<< "$names" | sort) > /dev/null || [ $part = ema ] ||
        fail "not exactly the tensors that no group holds have changed: $(changed base tuned $part | head)"
done
[ "$(grep -cE "^($held)" <<< "$names")" -gt 10 ] || fail "the patterns hold hardly anything"
# The average began as the weights, and where those stay it does, too; moments of what is held are zero as they were.
cmp <(tensors tuned ema | grep -E "\"($held)") <(tensors tuned weights | grep -E "\"($held)") ||
    fail "the moving average of held parameters is not the parameters"
! tensors tuned adam_v | grep -E "\"($held)" | grep -v '"min": 0.0, "max": 0.0' || fail "held parameters have moments"

# 4 + 4 = 8, on one rank and on two, whole and divided; and two ranks are one within rounding.
expect 0 parts.log "$vasily" train tiny.yaml run.dir=parts "${from[@]}" "$groups" --stop-after 4
expect 0 parts.log "$vasily" train tiny.yaml run.dir=parts "${from[@]}" "$groups" --resume auto
cmp <(hashes tuned/checkpoints/step-0000008) <(hashes parts/checkpoints/step-0000008) || fail "4 + 4 steps are not 8"
for shard in none all; do
    expect 0 two-$shard.log mpirun -n 2 "$vasily" train tiny.yaml run.dir=two-$shard "${from[@]}" "$groups" parallel.shard=$shard
    paste <(metric two-$shard loss) <(metric tuned loss) | awk '
        { d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > 1e-5) bad = 1; n++ } END { exit bad || n != 8 }' ||
        fail "the losses of two ranks ($shard) are not those of one"
    cmp <(tensors base weights | grep -E "\"($held)") <(tensors two-$shard weights | grep -E "\"($held)") ||
        fail "two ranks ($shard) have changed held parameters"
done
cmp <(hashes two-none/checkpoints/step-0000008) <(hashes two-all/checkpoints/step-0000008) ||
    fail "the optimizer divided gives other bits"

# ---- the norm is that of what is trained: two halves make the whole ----
one=(init.from=base train.steps=1)
expect 0 whole.log "$vasily" train tiny.yaml run.dir=whole "${one[@]}"
expect 0 half.log "$vasily" train tiny.yaml run.dir=half "${one[@]}" 'optim.groups=[{match: "*.bias", lr: 0}]'
expect 0 rest.log "$vasily" train tiny.yaml run.dir=rest "${one[@]}" \
    'optim.groups=[{match: "*.bias"}, {match: "*", lr: 0}]'
echo "$(metric whole grad_norm) $(metric half grad_norm) $(metric rest grad_norm)" | awk '
    { d = ($2 * $2 + $3 * $3) / ($1 * $1) - 1; if (d < 0) d = -d; exit !(d < 1e-5 && $2 < 0.999 * $1 && $3 < 0.999 * $1) }' ||
    fail "the norms do not add up: $(metric whole grad_norm) $(metric half grad_norm) $(metric rest grad_norm)"
[ "$(metric whole loss)" = "$(metric half loss)" ] || fail "the loss depends on what is held"

# ---- and so is the work ----
figure() { # figure KEY SETTINGS...
    local key=$1
    shift
    "$vasily" plan tiny.yaml --json "$@" | sed -n "s/.*\"$key\": \([0-9.e+]*\).*/\1/p"
}
for key in flops_per_image activations; do
    awk -v a="$(figure $key)" -v b="$(figure $key 'optim.groups=[{match: "out*"}, {match: "*", lr: 0}]')" 'BEGIN { exit !(b > 0 && b < 0.9 * a) }' ||
        fail "$key is no smaller with most parameters held"
done

# ---- the optimizer of another run goes on ----
keep=(init.from=base init.optimizer=kept train.steps=1 'optim.groups=[{match: out.2.bias}, {match: "*", lr: 0}]')
for ranks in 1 2; do
    launch=()
    [ $ranks = 1 ] || launch=(mpirun -n "$ranks")
    shard=none
    [ $ranks = 1 ] || shard=all
    expect 0 kept.log "${launch[@]}" "$vasily" train tiny.yaml run.dir=kept$ranks "${keep[@]}" parallel.shard=$shard
    contains kept.log "after 6 updates"
    contains kept$ranks/checkpoints/latest/state.json '"adam_t": 7'
    for part in weights adam_m adam_v; do
        [ "$(changed base kept$ranks $part)" = out.2.bias ] ||
            fail "$part was not kept on $ranks ranks: $(changed base kept$ranks $part | head -3)"
    done
    ! cmp -s <(tensors kept$ranks ema) <(tensors kept$ranks weights) || fail "the moving average was not kept"
done
expect 0 fresh.log "$vasily" train tiny.yaml run.dir=fresh "${keep[@]}" init.optimizer=fresh
contains fresh/checkpoints/latest/state.json '"adam_t": 1'

# ---- mistakes ----
refused() { # refused CODE TEXT TEXT SETTING...
    local code=$1 text=$2 more=$3
    shift 3
    expect "$code" refused.log "$vasily" train tiny.yaml run.dir=refused "$@"
    contains refused.log "$text"
    contains refused.log "$more"
}
refused 2 "optim.groups[0].match" "the nearest names are input_blocks." 'optim.groups=[{match: "input_block.*", lr: 0}]'
refused 2 "optim.groups[1].match" "put this one before" 'optim.groups=[{match: "*"}, {match: "out.*", lr: 0}]'
refused 2 "optim.groups" "nothing would be trained" 'optim.groups=[{match: "*", lr: 0}]'
refused 2 "optim.groups[0].lr" "-1" 'optim.groups=[{match: "*", lr: -1}]'
refused 2 "init.optimizer" "init.from is empty" init.optimizer=kept
expect 0 export.log "$vasily" export base --out weights.safetensors
refused 2 "init.optimizer" "no checkpoint of ours" init.optimizer=kept init.from=weights.safetensors
refused 6 "init.optimizer: kept: goes on with the same network only; fresh " "out.2.weight is 24x32x3x3" init.optimizer=kept init.from=base model.channels=64
refused 6 "init.optimizer: kept: " "which this model does not have" init.optimizer=kept init.from=base model.res_blocks=2
refused 3 "init.optimizer: kept: " "output_blocks.3.1." init.optimizer=kept init.from=base 'model.attention_levels=[1, 2]'
