#!/bin/bash
# Training, previews and sampling with Kandinsky 2.0's autoencoder inline, at a tiny size, its weights drawn from the
# seed: the number of ranks changes nothing but rounding, and a resume nothing at all.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

sed -i 's/in_channels: 12/in_channels: 4/; s/out_channels: 24/out_channels: 8/
    s/autoencoder: .*/autoencoder: {kind: kl, scale: 0.5, channels: 32, channel_mult: [1, 2], res_blocks: 1}/' tiny.yaml
prompt='preview.prompts=["red circle"]'

expect 0 one.log "$vasily" train tiny.yaml train.steps=10 run.dir=one preview.every=5 preview.steps=2 "$prompt"
contains one.log "model.autoencoder.weights is empty"
[ -s one/previews/step-0000010.png ] || fail "no preview"
[ "$(metric one allocations | tail -n +2 | sort -u)" = 0 ] || fail "a step allocates"
expect 0 small.log "$vasily" train tiny.yaml train.steps=10 run.dir=small train.micro_batch=2
expect 0 two.log mpirun -n 2 "$vasily" train tiny.yaml train.steps=10 run.dir=two
[ "$(grep -c "weights is empty" two.log)" = 1 ] || fail "not one warning of two ranks"
for other in small two; do
    paste <(metric one loss) <(metric $other loss) | awk -v other=$other '
        { d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "%s: worst relative difference of %d losses %.2g\n", other, n, worst
              if (n != 10 || worst > 1e-5) exit 1 }' || fail "losses of run $other are not those of one rank"
done

# Previews, and with them the decoder's parameters, leave the training alone; so does a stop.
expect 0 plain.log "$vasily" train tiny.yaml train.steps=10 run.dir=plain --stop-after 4
expect 0 plain.log "$vasily" train tiny.yaml train.steps=10 run.dir=plain --resume auto
[ "$(hashes one/checkpoints/latest)" = "$(hashes plain/checkpoints/latest)" ] || fail "a resumed run differs"

# Another seed, another encoder: other losses from the first step on would not tell, for the noise differs, too; a scale
# does not touch the noise.
expect 0 scale.log "$vasily" train tiny.yaml train.steps=4 run.dir=scale model.autoencoder.scale=0.25
[ "$(metric one loss | sed -n 4p)" != "$(metric scale loss | sed -n 4p)" ] || fail "the scale changes nothing"

expect 0 sample.log "$vasily" sample one --prompt "red circle" --steps 2 --size 20x12 --out picture.png
expect 0 plan.log "$vasily" plan tiny.yaml --ops
contains plan.log "autoencoder.encoder.mid.attn_1"
! grep -q " ref " plan.log || fail "an op runs on ref"

# The probes, both ways, on pictures that are not square.
golden=$here/../goldens/autoencoder_small.safetensors
expect 0 probe.log "$vasily" probe vae-encode tiny.yaml "$golden" encoded.safetensors
expect 0 probe.log "$vasily" probe vae-decode tiny.yaml encoded.safetensors decoded.safetensors model.precision=f32
expect 0 encoded.log "$vasily" inspect encoded.safetensors
expect 0 decoded.log "$vasily" inspect decoded.safetensors
grep moments encoded.log | grep -qF "(2,8,12,20)" || fail "no moments of 2,8,12,20"
grep latent encoded.log | grep -qF "(2,4,12,20)" || fail "no latent of 2,4,12,20"
grep pixels decoded.log | grep -qF "(2,3,24,40)" || fail "no pixels of 2,3,24,40"
expect 6 bad.log "$vasily" probe vae-decode tiny.yaml "$golden" bad.safetensors --weights decoded.safetensors
contains bad.log "encoder.conv_in.weight"
expect 2 bad.log "$vasily" probe vae-encode tiny.yaml "$golden" bad.safetensors --weights x model.autoencoder.kind=patch \
    model.autoencoder.factor=2
contains bad.log "kind kl"

expect 0 bench.log "$vasily" bench autoencoder tiny.yaml --steps 1 --width 8 --height 12 --batch 2
contains bench.log "encode 2 of 8 x 12 pixels"
expect 0 bench.log "$vasily" bench autoencoder tiny.yaml --steps 1 --decode
contains bench.log "decode 1 of 16 x 16 pixels"
contains bench.log "cross_attention"

# The mistakes of a config.
expect 2 bad.log "$vasily" train tiny.yaml model.autoencoder.channels=40
contains bad.log "multiple of the 32 groups"
expect 2 bad.log "$vasily" train tiny.yaml model.autoencoder.factor=4
contains bad.log "model.autoencoder.factor"
expect 2 bad.log "$vasily" train tiny.yaml "model.autoencoder.channel_mult=[1, 1, 1, 1, 1]"
contains bad.log "train.resolution"
expect 3 bad.log "$vasily" train tiny.yaml run.dir=bad model.autoencoder.weights=nowhere.ckpt
contains bad.log "nowhere.ckpt"
