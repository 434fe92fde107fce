"""Writes transformer.json: losses and gradients of small Alice transformers, computed by PyTorch in float64; and
shapes.json: the same at the shapes of alice-tiny, with norms and samples of the gradients.

An implementation of its own: nothing is shared with kernels/ but the architecture and the order of the tensors.
Run with a Python that has PyTorch (Debian: python3-torch):  python3 make_reference.py
"""

import base64
import json
import math
import os
import struct

import torch
import torch.nn.functional as F

CASES = [
    # name, layers, hidden, query heads, key/value heads, ffn, vocabulary, context, theta, epsilon, tied, batch, seed
    ("grouped-3", 2, 24, 6, 2, 20, 29, 7, 10000.0, 1e-5, False, 3, 1),
    ("grouped-2", 1, 32, 4, 2, 24, 31, 10, 500.0, 1e-6, False, 2, 2),
    ("multi-head", 2, 16, 4, 4, 24, 23, 9, 10000.0, 1e-5, False, 2, 3),
    ("multi-query", 3, 16, 4, 1, 12, 37, 5, 10000.0, 1e-3, False, 4, 4),
    ("tied", 2, 16, 2, 1, 24, 41, 6, 10000.0, 1e-5, True, 2, 5),
]

# Shapes of alice-tiny (hidden 384, FFN 1024, vocabulary 8192), with fewer layers and shorter contexts.
SHAPE_CASES = [
    ("tiny-shape-6-2", 2, 384, 6, 2, 1024, 8192, 48, 10000.0, 1e-5, False, 2, 11),
    ("tiny-shape-6-2-long", 1, 384, 6, 2, 1024, 8192, 256, 10000.0, 1e-5, False, 1, 12),
    ("tiny-shape-6-1-odd", 1, 384, 6, 1, 1024, 8192, 37, 10000.0, 1e-5, True, 3, 13),
    ("tiny-shape-6-6", 1, 384, 6, 6, 1024, 8192, 64, 10000.0, 1e-5, False, 2, 14),
]
# About the deviation of a fresh model's weights.
SPREAD = 0.05
# Gradient elements recorded of each tensor.
SAMPLES = 24


def mulberry32(seed):
    """Uniform numbers in [0, 1), the same as test/kernels/seeded.ts."""
    state = seed & 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        mixed = ((state ^ (state >> 15)) * (state | 1)) & 0xFFFFFFFF
        mixed ^= (mixed + (((mixed ^ (mixed >> 7)) * (mixed | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF
        yield ((mixed ^ (mixed >> 14)) & 0xFFFFFFFF) / 2.0**32


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def rms_norm(x, weight, epsilon):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def rotate(x, theta):
    """x: batch, heads, positions, width. Pairs (i, i + width / 2) as complex numbers times e^(i angle)."""
    positions, width = x.shape[-2:]
    frequencies = theta ** (-torch.arange(0, width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    rotated = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([rotated.real, rotated.imag], -1)


def compute(case, spread):
    """Names and shapes of the tensors, their gradients, and the loss of each position."""
    name, layers, hidden, query_heads, kv_heads, ffn, vocabulary, context, theta, epsilon, tied, batch, seed = case
    width = hidden // query_heads
    shapes = [("embedding", (vocabulary, hidden))]
    for i in range(layers):
        shapes += [
            (f"layers.{i}.attention.norm", (hidden,)),
            (f"layers.{i}.attention.query", (hidden, hidden)),
            (f"layers.{i}.attention.key", (kv_heads * width, hidden)),
            (f"layers.{i}.attention.value", (kv_heads * width, hidden)),
            (f"layers.{i}.attention.output", (hidden, hidden)),
            (f"layers.{i}.ffn.norm", (hidden,)),
            (f"layers.{i}.ffn.gate", (ffn, hidden)),
            (f"layers.{i}.ffn.up", (ffn, hidden)),
            (f"layers.{i}.ffn.down", (hidden, ffn)),
        ]
    shapes.append(("norm", (hidden,)))
    if not tied:
        shapes.append(("head", (vocabulary, hidden)))

    # Weights: uniform in [-spread, spread), norms one larger; tokens after them from the same stream.
    uniform = mulberry32(seed)
    weights = {}
    for tensor, shape in shapes:
        shift = 1.0 if len(shape) == 1 else 0.0
        values = [float32(shift + (next(uniform) - 0.5) * 2 * spread) for _ in range(math.prod(shape))]
        weights[tensor] = torch.tensor(values, dtype=torch.float64).reshape(shape).requires_grad_()
    tokens = torch.tensor([math.floor(next(uniform) * vocabulary) for _ in range(batch * (context + 1))])
    tokens = tokens.reshape(batch, context + 1)

    x = weights["embedding"][tokens[:, :-1]]
    mask = torch.full((context, context), -math.inf, dtype=torch.float64).triu(1)
    for i in range(layers):
        w = {key.split(".", 2)[2]: value for key, value in weights.items() if key.startswith(f"layers.{i}.")}
        h = rms_norm(x, w["attention.norm"], epsilon)
        q = (h @ w["attention.query"].T).view(batch, context, query_heads, width).transpose(1, 2)
        k = (h @ w["attention.key"].T).view(batch, context, kv_heads, width).transpose(1, 2)
        v = (h @ w["attention.value"].T).view(batch, context, kv_heads, width).transpose(1, 2)
        q, k = rotate(q, theta), rotate(k, theta)
        k = k.repeat_interleave(query_heads // kv_heads, 1)
        v = v.repeat_interleave(query_heads // kv_heads, 1)
        attention = F.softmax(q @ k.transpose(-1, -2) / math.sqrt(width) + mask, -1) @ v
        x = x + attention.transpose(1, 2).reshape(batch, context, hidden) @ w["attention.output"].T
        h = rms_norm(x, w["ffn.norm"], epsilon)
        x = x + (F.silu(h @ w["ffn.gate"].T) * (h @ w["ffn.up"].T)) @ w["ffn.down"].T
    logits = rms_norm(x, weights["norm"], epsilon) @ weights["embedding" if tied else "head"].T
    losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(batch, context)
    loss = losses.mean()
    loss.backward()
    return shapes, [weights[tensor].grad.flatten() for tensor, _ in shapes], losses


def description(case, losses):
    name, layers, hidden, query_heads, kv_heads, ffn, vocabulary, context, theta, epsilon, tied, batch, seed = case
    return {
        "preset": {
            "name": name,
            "layers": layers,
            "hidden": hidden,
            "queryHeads": query_heads,
            "keyValueHeads": kv_heads,
            "ffn": ffn,
            "vocabulary": vocabulary,
            "context": context,
            "ropeTheta": theta,
            "normEpsilon": epsilon,
            "tied": tied,
        },
        "batch": batch,
        "seed": seed,
        "loss": losses.mean().item(),
        "sequenceLosses": losses.mean(1).tolist(),
    }


def write(name, cases):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(cases, file, indent=2)
        file.write("\n")


def main():
    cases = []
    for case in CASES:
        _, gradients, losses = compute(case, 0.5)
        gradient = torch.cat(gradients)
        packed = struct.pack(f"<{len(gradient)}f", *gradient.tolist())
        cases.append({**description(case, losses), "gradientBase64": base64.b64encode(packed).decode()})
    write("transformer.json", cases)

    cases = []
    for case in SHAPE_CASES:
        _, gradients, losses = compute(case, SPREAD)
        tensors = [
            {
                "norm": gradient.norm().item(),
                "largest": gradient.abs().max().item(),
                "samples": [gradient[(i * 7919 + 13) % len(gradient)].item() for i in range(SAMPLES)],
            }
            for gradient in gradients
        ]
        cases.append({**description(case, losses), "spread": SPREAD, "tensors": tensors})
    write("shapes.json", cases)


main()
