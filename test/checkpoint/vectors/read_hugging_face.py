"""Reads an exported folder as anybody would, and prints what the model in it says.

    /usr/bin/python3 read_hugging_face.py FOLDER < tokens.json

tokens.json holds a list of token sequences; the output is one JSON object with the logits of the last position of each,
in float64. Knows the safetensors format (https://huggingface.co/docs/safetensors) and the published description of
LlamaForCausalLM (rotate_half, repeated key/value heads), and nothing of Alice; needs PyTorch, not the safetensors or
transformers packages.
"""

import json
import math
import os
import struct
import sys

import torch
import torch.nn.functional as F


def read_safetensors(path):
    tensors = {}
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length).decode("utf-8"))
        data = file.read()
    header.pop("__metadata__", None)
    for name, entry in header.items():
        assert entry["dtype"] == "F32", entry
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
        tensors[name] = flat.reshape(entry["shape"]).double()
    return tensors


def read_folder(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return config, read_safetensors(os.path.join(folder, "model.safetensors"))
    with open(index, encoding="utf-8") as file:
        weight_map = json.load(file)["weight_map"]
    tensors = {}
    for name in sorted(set(weight_map.values())):
        tensors.update(read_safetensors(os.path.join(folder, name)))
    assert tensors.keys() == weight_map.keys()
    return config, tensors


def rms_norm(x, weight, epsilon):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon))


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def logits_of(config, w, tokens):
    assert config["architectures"] == ["LlamaForCausalLM"] and config["hidden_act"] == "silu"
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    hidden, epsilon = config["hidden_size"], config["rms_norm_eps"]
    width = hidden // heads
    batch, positions = tokens.shape
    inverse = 1.0 / config["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), inverse)
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos(), angles.sin()
    mask = torch.full((positions, positions), -math.inf, dtype=torch.float64).triu(1)

    def split(x, count):
        return x.view(batch, positions, count, width).transpose(1, 2)

    x = F.embedding(tokens, w["model.embed_tokens.weight"])
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = rms_norm(x, w[p + "input_layernorm.weight"], epsilon)
        q = split(F.linear(h, w[p + "self_attn.q_proj.weight"]), heads)
        k = split(F.linear(h, w[p + "self_attn.k_proj.weight"]), kv_heads)
        v = split(F.linear(h, w[p + "self_attn.v_proj.weight"]), kv_heads)
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
        attention = F.softmax(q @ k.transpose(2, 3) / math.sqrt(width) + mask, dim=-1) @ v
        attention = attention.transpose(1, 2).reshape(batch, positions, hidden)
        x = x + F.linear(attention, w[p + "self_attn.o_proj.weight"])
        h = rms_norm(x, w[p + "post_attention_layernorm.weight"], epsilon)
        gated = F.silu(F.linear(h, w[p + "mlp.gate_proj.weight"])) * F.linear(h, w[p + "mlp.up_proj.weight"])
        x = x + F.linear(gated, w[p + "mlp.down_proj.weight"])
    x = rms_norm(x, w["model.norm.weight"], epsilon)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return F.linear(x, w[head])


def main():
    config, tensors = read_folder(sys.argv[1])
    tokens = torch.tensor(json.load(sys.stdin))
    json.dump({"logits": logits_of(config, tensors, tokens)[:, -1].tolist()}, sys.stdout)


main()
