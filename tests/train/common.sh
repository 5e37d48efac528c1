# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the tests of the program: bash common.sh's functions, a folder of its own, a small data set and a config.
# $1 is the program, $2 make_test_shards.
set -euo pipefail
vasily=$(readlink -f "$1")
make_test_shards=$(readlink -f "$2")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/vasily-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# Two ranks on one machine of any size, as root or not, in a container or not.
# shellcheck source=launch/mpi-env.sh
source "$here/../../launch/mpi-env.sh"

fail() {
    echo "FAILED: $*" >&2
    for log in "$work"/*.log; do
        [ -f "$log" ] && { echo "--- $(basename "$log")"; tail -15 "$log"; } >&2
    done
    exit 1
}

# expect CODE LOG COMMAND...: runs the command with its output in LOG and checks its exit code.
expect() {
    local want=$1 log=$2 code=0
    shift 2
    "$@" > "$log" 2>&1 || code=$?
    [ "$code" = "$want" ] || fail "exit code $code instead of $want: $*"
}

contains() { # contains FILE TEXT
    grep -qF -- "$2" "$1" || fail "\"$2\" is not in $1"
}

# One column of a run's metrics: metric RUN KEY
metric() {
    sed -n "s/.*\"$2\": *\([^,}]*\).*/\1/p" "$1/metrics.jsonl"
}

# A checkpoint's hashes of weights, moments and average; of one in shares, of what it is as one file an array.
hashes() {
    if [ -e "$1/weights.shares.json" ]; then
        local whole
        whole=$(mktemp -d "$work/whole.XXXXXX")
        "$vasily" checkpoint convert "$1" "$whole/one" > "$whole/log" 2>&1 || echo "not converted: $whole, $(cat "$whole/log")"
        [ ! -e "$whole/one" ] || hashes "$whole/one"
        rm -rf "$whole"
        return
    fi
    grep -o '"name": *"[a-z_]*\.h5"[^}]*' "$1/manifest.json" | sort
}

mkdir shards
"$make_test_shards" shards 4 24 16
cp "$here/tokenizer.model" .
cat > tiny.yaml <<'YAML'
seed: 7
run:
  dir: run
train:
  steps: 60
  global_batch: 8
  resolution: 16
  bucket_bytes: 64Ki
checkpoint:
  every: 10
  keep: 3
preview:
  every: 0
optim:
  max_lr: 1.0e-3
  total_steps: 60
  pct_start: 0.2
model:
  in_channels: 12
  out_channels: 24
  channels: 32
  channel_mult: [1, 2]
  res_blocks: 1
  attention_levels: [2]
  head_channels: 32
  context_dim: 32
  text1_dim: 32
  pooled_dim: 16
  text2_dim: 32
  text2_heads: 2
  max_tokens: 8
  precision: f32
  autoencoder: {kind: patch, factor: 2}
  text_encoder1: {vocab: 200, layers: 1, heads: 2, feed_forward: 32, positions: 10}
  text_encoder2: {vocab: 200, layers: 1, heads: 2, head_channels: 8, feed_forward: 32}
device:
  threads: 1
data:
  sources:
    - name: shapes
      shards: ["shards/{000000..000003}.tar"]
  lanes: 4
  shuffle_block: 8
  decode_threads: 1
  filter: {min_side: 0}
  tokenizer1: {model: tokenizer.model, max_tokens: 8}
  tokenizer2: {model: tokenizer.model, max_tokens: 8}
YAML
