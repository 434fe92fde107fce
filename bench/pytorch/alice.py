"""The Alice transformer in plain PyTorch, as a baseline: what its user would otherwise run on the same machine.

Reads one JSON request per line from standard input and answers each with one JSON object on a line; `engine.ts` beside
this file is the other end. Needs PyTorch 1.13 or later and nothing else (Debian: python3-torch). Nothing is shared with
kernels/ but the architecture and the order of the tensors.

start     threads, preset, batch, context, weights (path of raw float32 in canonical order, or null for random ones),
          dtype 'float32'|'float64' (of weights and arithmetic) -> parameters, version
step      tokens (batch x (context + 1) ids), precision 'fp32'|'bf16', checkpoint, learning_rate (null: no optimizer)
          -> loss, seconds
gradient  tokens, precision, path (the gradient is written there, as raw float32 in canonical order) -> loss
losses    tokens (any number of sequences) -> losses (mean of each sequence, nats)
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


class Alice:
    def __init__(self, preset, batch, context, weights, dtype):
        self.preset, self.batch, self.context = preset, batch, context
        hidden, ffn, vocabulary = preset["hidden"], preset["ffn"], preset["vocabulary"]
        self.width = hidden // preset["queryHeads"]
        narrow = preset["keyValueHeads"] * self.width
        block = {
            "attention.norm": (hidden,),
            "attention.query": (hidden, hidden),
            "attention.key": (narrow, hidden),
            "attention.value": (narrow, hidden),
            "attention.output": (hidden, hidden),
            "ffn.norm": (hidden,),
            "ffn.gate": (ffn, hidden),
            "ffn.up": (ffn, hidden),
            "ffn.down": (hidden, ffn),
        }
        shapes = [("embedding", (vocabulary, hidden))]
        for layer in range(preset["layers"]):
            shapes += [(f"layers.{layer}.{name}", shape) for name, shape in block.items()]
        shapes.append(("norm", (hidden,)))
        if not preset["tied"]:
            shapes.append(("head", (vocabulary, hidden)))
        flat = None if weights is None else torch.from_file(weights, size=sum(math.prod(s) for _, s in shapes))
        self.parameters, offset = {}, 0
        for name, shape in shapes:
            length = math.prod(shape)
            if flat is not None:
                tensor = flat[offset : offset + length].reshape(shape).to(dtype, copy=True)
            else:
                tensor = (torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02).to(dtype)
            self.parameters[name] = tensor.requires_grad_()
            offset += length
        self.blocks = [
            {name: self.parameters[f"layers.{layer}.{name}"] for name in block} for layer in range(preset["layers"])
        ]
        half = self.width // 2
        frequencies = preset["ropeTheta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
        self.cosine, self.sine = angles.cos().to(dtype), angles.sin().to(dtype)
        self.mask = torch.full((context, context), -math.inf, dtype=dtype).triu(1)

    def rms_norm(self, x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.preset["normEpsilon"]) * weight

    def rotate(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cosine - b * self.sine, a * self.sine + b * self.cosine], -1)

    def block(self, x, weight):
        queries, pairs, width = self.preset["queryHeads"], self.preset["keyValueHeads"], self.width
        batch, context, hidden = x.shape

        def heads(name, count):
            return F.linear(h, weight[name]).view(batch, context, count, width).transpose(1, 2)

        h = self.rms_norm(x, weight["attention.norm"])
        q = self.rotate(heads("attention.query", queries))
        k = self.rotate(heads("attention.key", pairs)).repeat_interleave(queries // pairs, 1)
        v = heads("attention.value", pairs).repeat_interleave(queries // pairs, 1)
        probabilities = F.softmax(q @ k.transpose(-1, -2) / math.sqrt(width) + self.mask, -1)
        attended = (probabilities.to(v.dtype) @ v).transpose(1, 2).reshape(batch, context, hidden)
        x = x + F.linear(attended, weight["attention.output"])
        h = self.rms_norm(x, weight["ffn.norm"])
        gated = F.silu(F.linear(h, weight["ffn.gate"])) * F.linear(h, weight["ffn.up"])
        return x + F.linear(gated, weight["ffn.down"])

    def cross_entropy(self, tokens, recompute):
        """Cross-entropy of each position, [sequences, context]."""
        x = self.parameters["embedding"][tokens[:, :-1]]
        for weight in self.blocks:
            # Before PyTorch 2 only the reentrant form exists.
            x = checkpoint(self.block, x, weight) if recompute else self.block(x, weight)
        head = self.parameters["embedding" if self.preset["tied"] else "head"]
        logits = F.linear(self.rms_norm(x, self.parameters["norm"]), head)
        # What autocast leaves in bf16 is summed in float32.
        exact = logits if logits.dtype == torch.float64 else logits.float()
        losses = F.cross_entropy(exact.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        return losses.view(tokens.shape[0], -1)


class Trainer:
    def __init__(self, request):
        torch.set_num_threads(request["threads"])
        dtype = getattr(torch, request["dtype"])
        self.model = Alice(request["preset"], request["batch"], request["context"], request["weights"], dtype)
        tensors = self.model.parameters.values()
        # Norms do not decay, as in kernels/train/adamw.ts; foreach is the fastest form that a CPU has.
        groups = [
            {"params": [t for t in tensors if t.dim() > 1], "weight_decay": 0.1},
            {"params": [t for t in tensors if t.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, foreach=True)

    def sequences(self, request):
        return torch.tensor(request["tokens"]).view(-1, self.model.context + 1)

    def backward(self, tokens, precision, recompute):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = self.model.cross_entropy(tokens, recompute).mean()
        loss.backward()
        return loss

    def gradient(self, request):
        loss = self.backward(self.sequences(request), request["precision"], False)
        with open(request["path"], "wb") as file:
            for tensor in self.model.parameters.values():
                file.write(tensor.grad.float().numpy().tobytes())
        return {"loss": loss.item()}

    def step(self, request):
        tokens = self.sequences(request)
        began = time.perf_counter()
        loss = self.backward(tokens, request["precision"], request["checkpoint"])
        if request["learning_rate"] is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = request["learning_rate"]
            torch.nn.utils.clip_grad_norm_(list(self.model.parameters.values()), 1.0)
            self.optimizer.step()
        return {"loss": loss.item(), "seconds": time.perf_counter() - began}

    def losses(self, request):
        with torch.no_grad():
            parts = self.sequences(request).split(self.model.batch)
            return {"losses": [x for part in parts for x in self.model.cross_entropy(part, False).mean(1).tolist()]}


def main():
    trainer = None
    for line in sys.stdin:
        request = json.loads(line)
        kind = request["kind"]
        if kind == "start":
            trainer = Trainer(request)
            answer = {
                "parameters": sum(tensor.numel() for tensor in trainer.model.parameters.values()),
                "version": torch.__version__,
            }
        else:
            answer = {"step": trainer.step, "gradient": trainer.gradient, "losses": trainer.losses}[kind](request)
        print(json.dumps(answer), flush=True)


main()
