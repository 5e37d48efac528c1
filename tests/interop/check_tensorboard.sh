#!/bin/bash
# check_tensorboard.sh VASILY MAKE_TEST_SHARDS: TensorBoard's own reader reads what a run writes.
#
# A run of 25 steps is stopped, loses its last checkpoint, and goes on from step 20 to 40. TensorBoard's reader must have
# each step once, with the numbers of metrics.jsonl, the pictures of previews/ byte for byte, and the config.
# Needs, as `python3` on the PATH: pip install tensorboard
set -euo pipefail
interop=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/train/common.sh disable=SC2154
source "$interop/../train/common.sh"
run=(run.dir=run preview.every=10 'preview.prompts=["circle"]' preview.steps=2 watch.every=1)
expect 0 first.log "$vasily" train tiny.yaml "${run[@]}" --stop-after 25
rm -r run/checkpoints/step-0000025
expect 0 second.log "$vasily" train tiny.yaml "${run[@]}" train.steps=40 --resume auto
python3 "$interop/check_tensorboard.py" run
