"""The project's counter-based random numbers (base/random.h) in numpy, so that goldens and tests share weights and
signs without storing them."""

import numpy as np

RANDOM_TEST = 15
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = 0x9E3779B9, 0xBB67AE85
LOW = np.uint64(0xFFFFFFFF)


def philox_u32(seed, purpose, index, count):
    """Elements 0 to count - 1 of (seed, purpose, index) as uint32."""
    blocks = (count + 3) // 4
    block = np.arange(blocks, dtype=np.uint64)
    c0 = block & LOW
    c1 = ((block >> np.uint64(32)) & np.uint64(0xFFFFFF)) | np.uint64(purpose << 24)
    c2 = np.full(blocks, index & 0xFFFFFFFF, dtype=np.uint64)
    c3 = np.full(blocks, index >> 32, dtype=np.uint64)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & LOW,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & LOW,
        )
        k0, k1 = (k0 + W0) & 0xFFFFFFFF, (k1 + W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:count].astype(np.uint32)


def philox_uniform(seed, purpose, index, count):
    """Uniform on [0, 1) with 24 bits, float32, the same bits as random_uniform."""
    return (philox_u32(seed, purpose, index, count) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def fnv1a(name):
    """FNV-1a, 64 bits: the index of a tensor's stream."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def philox_normal(seed, purpose, index, count):
    """Standard normals of random_normal (base/random.h), to a few units of float32: Box-Muller on pairs of words."""
    words = philox_u32(seed, purpose, index, (count + 3) // 4 * 4).reshape(-1, 2)
    unit = ((words[:, 0] >> np.uint32(1)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-31)
    radius = np.sqrt(-2 * np.log(unit.astype(np.float64)))
    angle = words[:, 1].astype(np.float64) * (2 * np.pi / 2**32)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count].astype(np.float32)
