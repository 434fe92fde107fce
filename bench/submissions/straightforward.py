"""Compression and aggregation as one writes them in NumPy, to compare with; one thread.

Reads one command per line and answers each with the seconds it took:

    load ROWS COLUMNS TOP_K FILE   a float32 matrix of pseudo-gradients; also makes the updates that are aggregated
    compress | decode | aggregate | apply

compress: error feedback, top-k of every 64 x 64 tile, 2-bit values with a table of level means; positions stay uint16
(there is no entropy coding to be had in NumPy). decode: back to ascending indices and values. aggregate: the mean of 16
updates in float64. apply: subtract, and put back what was there.
"""

import sys
import time

import numpy as np

UPDATES = 16
state = {}


def tiles(matrix):
    rows, columns = matrix.shape
    return matrix.reshape(rows // 64, 64, columns // 64, 64).swapaxes(1, 2).reshape(-1, 4096)


def compress():
    feedback = state["feedback"]
    feedback *= np.float32(0.95)
    feedback += state["delta"]
    chunks = tiles(feedback)
    k = state["k"]
    positions = np.argpartition(np.abs(chunks), -k, axis=1)[:, -k:]
    positions.sort(axis=1)
    values = np.take_along_axis(chunks, positions, axis=1)
    mean, step = values.mean(), 1.5 * values.std()
    codes = np.digitize(values, [mean - step, mean, mean + step]).astype(np.uint8)
    counts = np.maximum(np.bincount(codes.ravel(), minlength=4), 1)
    levels = (np.bincount(codes.ravel(), weights=values.ravel(), minlength=4) / counts).astype(np.float32)
    four = codes.reshape(-1, 4)
    packed = four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6
    sent = levels[codes]
    rows, columns = feedback.shape
    tile = np.arange(len(chunks))[:, None]
    row = tile // (columns // 64) * 64 + positions // 64
    column = tile % (columns // 64) * 64 + positions % 64
    feedback[row, column] -= sent
    return positions.astype(np.uint16), packed, levels


def decode():
    positions, packed, levels = state["sent"]
    columns = state["delta"].shape[1]
    codes = np.empty((len(packed), 4), np.uint8)
    for place in range(4):
        codes[:, place] = packed >> (2 * place) & 3
    values = levels[codes.ravel()]
    tile = np.arange(len(positions))[:, None]
    row = tile // (columns // 64) * 64 + positions // 64
    column = tile % (columns // 64) * 64 + positions % 64
    indices = (row * columns + column).ravel()
    order = np.argsort(indices, kind="stable")
    return indices[order], values[order]


def aggregate():
    total = np.zeros(state["delta"].size)
    for indices, values in state["updates"]:
        total[indices] += values.astype(np.float64) / UPDATES
    touched = np.flatnonzero(total)
    return touched, total[touched].astype(np.float32)


def apply():
    weights = state["weights"]
    indices, values = state["aggregate"]
    before = weights[indices]
    weights[indices] = (before - 1.0 * values.astype(np.float64)).astype(np.float32)
    weights[indices] = before


def load(rows, columns, k, path):
    delta = np.fromfile(path, np.float32).reshape(int(rows), int(columns))
    state.update(delta=delta, feedback=np.zeros_like(delta), k=int(k), weights=delta.ravel().copy())
    state["sent"] = compress()
    random = np.random.default_rng(1)
    indices, values = decode()
    state["updates"] = [
        (np.sort(random.choice(delta.size, len(indices), replace=False)), random.permutation(values))
        for _ in range(UPDATES)
    ]
    state["aggregate"] = aggregate()


COMMANDS = {"load": load, "compress": compress, "decode": decode, "aggregate": aggregate, "apply": apply}
for line in sys.stdin:
    name, *arguments = line.split()
    start = time.perf_counter()
    COMMANDS[name](*arguments)
    print(time.perf_counter() - start, flush=True)
