#!/usr/bin/env python3
"""Makes the goldens of the text encoders from Hugging Face transformers: make_text_goldens.py [OUT_FOLDER]

needs torch, transformers and safetensors. Writes into OUT_FOLDER (default: this folder)

    text_xlmr.safetensors    an XLM-R-CLIP of 3 layers: every weight under its published name, tokens, mask, states, pooled
    text_mt5.safetensors     an mT5 encoder of 3 layers: likewise, without pooled

The networks run in float64. Every weight is randomised, norms, biases and the padding rows of the embeddings included;
queries and keys are large enough for attention to be far from uniform. The sizes are odd where they can be, and are
repeated in tests/model/test_text_encoders.c.
"""

import math
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import MT5Config, MT5EncoderModel, XLMRobertaConfig, XLMRobertaModel

ROWS = 13
XLMR = dict(vocab=61, width=27, layers=3, heads=3, feed_forward=41, positions=19, pooled=11)
MT5 = dict(vocab=53, width=21, layers=3, heads=5, head_channels=7, feed_forward=29, buckets=8, max_distance=7)


def randomise(model, generator):
    """Matrices of gain 1 (queries and keys more), norms around 1, biases around 0, and embeddings so small that the
    first norm's eps shows."""
    for name, weight in model.named_parameters():
        values = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        lower = name.lower()
        if "embed" in lower and "norm" not in lower or name == "shared.weight":
            scale, shift = 0.03, 0.0
        elif "relative_attention_bias" in name:
            scale, shift = 1.0, 0.0
        elif weight.ndim == 2:
            keyed = any(word in name for word in (".query.", ".key.", ".q.", ".k."))
            scale, shift = (1.6 if keyed else 1.0) / math.sqrt(weight.shape[1]), 0.0
            if ".q." in name:  # T5 does not scale its scores
                scale /= math.sqrt(MT5["head_channels"])
        elif name.endswith("bias"):
            scale, shift = 0.3, 0.0
        else:
            scale, shift = 0.3, 1.0
        with torch.no_grad():
            weight.copy_((values * scale + shift).float().double())  # what the file's f32 can hold


def captions(generator, vocab, bos, pad, eos, pieces):
    """tokens, mask (N,ROWS): captions of `pieces` pieces between the special tokens; -1: a row of tokens only."""
    tokens = torch.full((len(pieces), ROWS), pad, dtype=torch.int32)
    mask = torch.zeros((len(pieces), ROWS), dtype=torch.int32)
    for row, count in enumerate(pieces):
        special = (bos is not None) + 1
        length = ROWS - special if count < 0 else count
        text = torch.randint(4, vocab, (length,), generator=generator).tolist()
        ids = ([bos] if bos is not None else []) + text + [eos]
        tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        mask[row, : len(ids)] = 1
    mask[3, 2] = 0  # a token that is hidden without being padding: positions count it, attention and mean do not
    return tokens, mask


def xlmr_clip(generator):
    c = XLMR
    config = XLMRobertaConfig(
        vocab_size=c["vocab"], hidden_size=c["width"], num_hidden_layers=c["layers"], num_attention_heads=c["heads"],
        intermediate_size=c["feed_forward"], max_position_embeddings=c["positions"], type_vocab_size=1,
        hidden_act="gelu", layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )
    config._attn_implementation = "eager"
    transformer = XLMRobertaModel(config, add_pooling_layer=False).double().eval()
    linear = torch.nn.Linear(c["width"], c["pooled"]).double()
    randomise(transformer, generator)
    randomise(linear, generator)
    # Padding inside the batch, an empty caption, a row of tokens only; and a row whose last token is <unk>.
    tokens, mask = captions(generator, c["vocab"], 0, 1, 2, [4, 0, -1, 7, 1])
    tokens[3, 8] = 3
    with torch.no_grad():
        states = transformer(input_ids=tokens.long(), attention_mask=mask.long())[0]
        mean = (states * mask.unsqueeze(2)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        pooled = linear(mean)
    tensors = {"transformer." + name: weight for name, weight in transformer.named_parameters()}
    tensors |= {"LinearTransformation." + name: weight for name, weight in linear.named_parameters()}
    return tensors | {"tokens": tokens, "mask": mask, "states": states, "pooled": pooled}


def mt5(generator):
    c = MT5
    config = MT5Config(
        vocab_size=c["vocab"], d_model=c["width"], d_kv=c["head_channels"], d_ff=c["feed_forward"],
        num_layers=c["layers"], num_heads=c["heads"], relative_attention_num_buckets=c["buckets"],
        relative_attention_max_distance=c["max_distance"], feed_forward_proj="gated-gelu", layer_norm_epsilon=1e-6,
        dropout_rate=0.0,
    )
    config._attn_implementation = "eager"
    model = MT5EncoderModel(config).double().eval()
    randomise(model, generator)
    tokens, mask = captions(generator, c["vocab"], None, 0, 1, [5, 0, -1, 8, 1])
    with torch.no_grad():
        states = model(input_ids=tokens.long(), attention_mask=mask.long())[0]
    return dict(model.named_parameters()) | {"tokens": tokens, "mask": mask, "states": states}


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for name, make in (("text_xlmr", xlmr_clip), ("text_mt5", mt5)):
        tensors = make(torch.Generator().manual_seed(3))
        tensors = {
            key: (value if value.dtype == torch.int32 else value.detach().float()).contiguous()
            for key, value in tensors.items()
        }
        save_file(tensors, os.path.join(out, name + ".safetensors"))
        print(name, len(tensors), "tensors, states", tensors["states"].abs().mean().item())


main()
