# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy"]
# ///
"""Writes cases.json, runs of a second sampler: `uv run generate.py`.

The filters are transformers' 5.23 (generation/logits_process.py) line by line, numpy for torch;
presence and frequency penalties are OpenAI's formula. The generator is written from the ChaCha
paper (8 rounds, 64-bit counter, nonce 0) and rand_core's `seed_from_u64` (PCG32).
"""

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
VOCAB, STEPS = 500, 24
M32, M64 = (1 << 32) - 1, (1 << 64) - 1


def logits(step):
    """Distinct multiples of 1/64 between -8 and 8, another order at each step."""
    i = np.arange(VOCAB)
    return ((i * 7919 + step * 104729) % 1009 - 504) / 64


def key(state):
    words = []
    for _ in range(8):
        state = (state * 6364136223846793005 + 0xA17654E46FBE17F3) & M64
        x, rot = ((state >> 18 ^ state) >> 27) & M32, state >> 59
        words.append((x >> rot | x << (32 - rot)) & M32)
    return words


def block(key, counter):
    constants = [int.from_bytes(b"expand 32-byte k"[i : i + 4], "little") for i in (0, 4, 8, 12)]
    state = [*constants, *key, counter & M32, counter >> 32, 0, 0]
    w = state[:]

    def quarter(a, b, c, d):
        for x, y, z, rot in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            w[x] = (w[x] + w[y]) & M32
            t = w[z] ^ w[x]
            w[z] = (t << rot | t >> (32 - rot)) & M32

    for _ in range(4):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) & M32 for a, b in zip(state, w)]


def uniforms(seed):
    words, counter = key(seed), 0
    while True:
        out = block(words, counter)
        counter += 1
        for low, high in zip(out[::2], out[1::2]):
            yield ((high << 32 | low) >> 11) * 2.0**-53


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def warp(scores, temperature, top_k, top_p, min_p):
    scores = scores / temperature
    if top_k:
        scores = np.where(scores < np.sort(scores)[-min(top_k, VOCAB)], -np.inf, scores)
    if top_p < 1:
        order = np.argsort(scores, kind="stable")
        remove = softmax(scores[order]).cumsum() <= 1 - top_p
        remove[-1] = False
        scores[order[remove]] = -np.inf
    probs = softmax(scores)
    return np.where(probs < min_p * probs.max(), -np.inf, scores)


def run(prompt=(), temperature=0.0, top_k=None, top_p=1.0, min_p=0.0, repetition_penalty=1.0,
        presence_penalty=0.0, frequency_penalty=0.0, logit_bias=(), seed=0):
    output, numbers = [], uniforms(seed)
    for step in range(STEPS):
        scores = logits(step)
        for id, bias in logit_bias:
            scores[id] += bias
        for id in {*prompt, *output}:
            scores[id] = scores[id] * repetition_penalty if scores[id] < 0 else scores[id] / repetition_penalty
        for id in set(output):
            scores[id] -= presence_penalty + output.count(id) * frequency_penalty
        if temperature == 0:
            output.append(int(scores.argmax()))
            continue
        sums = softmax(warp(scores, temperature, top_k, top_p, min_p)).cumsum()
        output.append(int(np.searchsorted(sums, next(numbers) * sums[-1], side="right")))
    return output


CASES = [
    {},
    {"temperature": 1.0, "seed": 42},
    {"temperature": 0.7, "top_k": 40, "seed": 1},
    {"temperature": 1.3, "top_p": 0.9, "seed": 2},
    {"temperature": 1.0, "min_p": 0.05, "seed": 3},
    {"temperature": 1.5, "top_k": 100, "top_p": 0.8, "min_p": 0.1, "seed": 2**64 - 1},
    {"temperature": 2.0, "top_k": 7, "repetition_penalty": 1.5, "prompt": [3, 5, 60, 499], "seed": 5},
    {"repetition_penalty": 8.0, "presence_penalty": 0.5, "frequency_penalty": 1.5,
     "logit_bias": [[7, 6.5], [8, -100.0], [9, 8.0]], "prompt": [9, 200, 201, 202]},
    {"temperature": 0.9, "presence_penalty": -1.0, "frequency_penalty": 0.25, "top_p": 0.6,
     "logit_bias": [[11, 12.0]], "seed": 8},
]

cases = [case | {"ids": run(**case)} for case in CASES]
lines = ",\n".join(json.dumps(case) for case in cases)
golden = f'{{"vocab": {VOCAB}, "cases": [\n{lines}\n]}}\n'
(HERE / "cases.json").write_text(golden)
