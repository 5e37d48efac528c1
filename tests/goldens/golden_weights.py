"""Weights by rule, so that goldens and C tests share them without storing them (tests/model/golden_unet.c): element e
of tensor NAME is drawn from the stream fnv1a(NAME).
    matrices and kernels   uniform in +-sqrt(3 / fan_in)
    norm weights           1 + uniform in +-0.25
    biases                 uniform in +-0.25
"""

import math

import numpy as np

from golden_philox import RANDOM_TEST, fnv1a, philox_uniform

SEED = 20


def draw_weight(name, shape):
    count = int(np.prod(shape))
    spread = np.float32(2) * philox_uniform(SEED, RANDOM_TEST, fnv1a(name), count) - np.float32(1)
    if len(shape) > 1:
        value = spread * np.float32(math.sqrt(3.0 / (count // shape[0])))
    elif name.endswith("weight"):
        value = np.float32(1) + np.float32(0.25) * spread
    else:
        value = np.float32(0.25) * spread
    return value.reshape(shape)
