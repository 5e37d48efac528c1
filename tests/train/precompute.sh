# shellcheck shell=bash disable=SC2034,SC2154
# Sourced after common.sh by the tests of precomputed data: shards with captions in three languages and broken samples,
# a config with the published networks at tiny size, and the comparison of losses.
rm -rf shards
mkdir shards
"$make_test_shards" shards 4 24 16 mixed
steps=8
common=("train.steps=$steps" "optim.total_steps=$steps" checkpoint.every=4 data.text_dropout=0.3 data.max_bad_share=0.5
    'model.autoencoder={kind: kl, channels: 32, channel_mult: [1, 2], res_blocks: 1}' model.in_channels=4
    model.out_channels=8 model.max_tokens=12 model.text_encoder1.positions=16 data.tokenizer1.max_tokens=12
    data.tokenizer2.max_tokens=12 optim.max_lr=0.001)
latents=frozen.latents=precomputed text=frozen.text=precomputed

train() { # train RUN overrides...: 8 steps on one rank
    local run=$1
    shift
    expect 0 "$run.log" "$vasily" train tiny.yaml "${common[@]}" run.dir="$run" "$@"
}

same() { # same RUN OTHER [TOLERANCE]: every loss within 1e-6
    paste <(metric "$1" loss) <(metric "$2" loss) | awk -v limit="${3:-1e-6}" -v steps=$steps -v name="$2 and $1" '
        { d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "%s: worst difference of %d losses %.2g\n", name, n, worst
              if (n != steps || !(worst <= limit)) exit 1 }' || fail "the losses of $2 are not those of $1"
}

precompute() { # precompute LOG overrides...
    local log=$1
    shift
    expect 0 "$log" "$vasily" precompute tiny.yaml "${common[@]}" "$@"
}
