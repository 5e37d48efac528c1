"""The public repository's AutoencoderKL, imported without the packages that it does not need for running."""

import contextlib
import importlib
import io
import os
import sys
import types

import torch


def import_reference(checkout):
    """The module kandinsky2.vqgan.autoencoder of a checkout of ai-forever/Kandinsky-2."""
    lightning = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = torch.nn.Module
    sys.modules["pytorch_lightning"] = lightning
    for package, folder in (("kandinsky2", "kandinsky2"), ("kandinsky2.vqgan", "kandinsky2/vqgan")):
        module = sys.modules.setdefault(package, types.ModuleType(package))
        module.__path__ = [os.path.join(checkout, folder)]
    return importlib.import_module("kandinsky2.vqgan.autoencoder")


def build(reference, ch, mult, res_blocks, channels):
    """As kandinsky2/configs.py sets it up, with other sizes."""
    with contextlib.redirect_stdout(io.StringIO()):  # its constructors talk
        return reference.AutoencoderKL(
            ddconfig=dict(
                double_z=True, z_channels=channels, resolution=256, in_channels=3, out_ch=3, ch=ch,
                ch_mult=list(mult), num_res_blocks=res_blocks, attn_resolutions=[], dropout=0.0,
            ),
            embed_dim=channels,
        )
