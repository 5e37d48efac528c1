"""The public repository's UNet, imported without the packages that its other modules want."""

import importlib
import os
import sys
import types

import torch

# Kandinsky 2.0's (kandinsky2/configs.py): 1,223.4 M parameters.
FULL = dict(
    in_channels=4, out_channels=8, channels=384, mult=(1, 2, 3, 4), res_blocks=3, attention=(2, 4, 8), head=64,
    context=768, text1=1024, pooled=640, text2=512, heads2=8,
)


def import_reference(checkout):
    """The module kandinsky2.model.text2im_model of a checkout of ai-forever/Kandinsky-2."""
    transformers = types.ModuleType("transformers")
    for name in ("T5EncoderModel", "MT5EncoderModel", "BertModel", "XLMRobertaModel", "AutoConfig"):
        setattr(transformers, name, None)
    sys.modules["transformers"] = transformers
    for package, folder in (("kandinsky2", "kandinsky2"), ("kandinsky2.model", "kandinsky2/model")):
        module = types.ModuleType(package)
        module.__path__ = [os.path.join(checkout, folder)]
        sys.modules[package] = module
    return importlib.import_module("kandinsky2.model.text2im_model")


def build(reference, c):
    model = reference.Text2ImUNet(
        model_dim=c["context"], text_encoder_in_dim1=c["text1"], text_encoder_in_dim2=c["pooled"],
        pooling_type="from_model", cache_text_emb=False, in_channels=c["in_channels"],
        model_channels=c["channels"], out_channels=c["out_channels"], num_res_blocks=c["res_blocks"],
        attention_resolutions=c["attention"], channel_mult=c["mult"], num_heads=1, num_head_channels=c["head"],
        use_scale_shift_norm=True, resblock_updown=True,
    )
    if c["text2"] != 512:  # the reference fixes 512 wide, 8 heads
        model.proj2 = reference.AttentionPooling(c["heads2"], c["text2"], 4 * c["channels"])
        model.to_model_dim2 = torch.nn.Linear(c["text2"], c["context"])
    return model
