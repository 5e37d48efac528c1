#!/bin/sh
# Made tokenizer.model, once: a SentencePiece model of 80 pieces, trained on words that make_test_shards writes.
# Needs spm_train (package sentencepiece).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
text=$(mktemp)
trap 'rm -f "$text"' EXIT
for color in red green blue white black yellow rot grün blau красный зелёный синий; do
    for shape in circle square stripe cross kreis quadrat круг квадрат; do
        echo "$color $shape"
    done
done > "$text"
spm_train --input="$text" --model_prefix="$here/tokenizer" --model_type=unigram --vocab_size=80 \
    --character_coverage=1.0 --normalization_rule_name=identity --bos_id=0 --pad_id=1 --eos_id=2 --unk_id=3 --num_threads=1 --hard_vocab_limit=false
rm -f "$here/tokenizer.vocab"
