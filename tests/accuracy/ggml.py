#!/usr/bin/env python3
"""Error of quantized weights beside ggml's formats, by ggml's own functions.

A slow test, `cargo xtask slow --only formats`; no part of the product. It fails where 4 bits lose more than 0.85 of what
q4_K does. ggml's library comes from the npm package @node-llama-cpp/linux-x64 (3.22.1 was used):

    npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz
    python3 tests/accuracy/ggml.py package/bins/linux-x64 [CHECKPOINT/model.safetensors ...]

Sets: those that the example `rmse` of olmo2-kernels makes (Gaussian, Student's t with 8 and 5
degrees of freedom, log-normal rows and columns), the embedded model's matrices, and those of each
checkpoint named (bf16, f16 or f32; of each matrix the first rows, --limit weights). q4_K, whose
blocks have 256 weights, runs over the flattened matrix; the other formats over its rows. The table
has the root of the mean squared error over that of the weights, in %. Needs Python 3.9 and cargo.
"""

import argparse
import array
import collections
import ctypes
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "crates/olmo2/assets/demo/model.safetensors"
# Number in enum ggml_type, weights and bytes of a block.
FORMATS = {"q8_0": (8, 32, 34), "q4_0": (2, 32, 18), "q4_K": (12, 256, 144)}
COLUMNS = ("q8_0", "q8", "q4_0", "q4_K", "q4")
BOUND = 0.85


class Ggml:
    def __init__(self, folder):
        self.library = ctypes.CDLL(str(folder / "libggml-base.so"))
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.library.ggml_quantize_chunk.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ]

    def through(self, name, weights):
        """Quantized and back. Blocks do not cross rows if those are multiples of a block."""
        number, block, size = FORMATS[name]
        count = len(weights)
        if count % block:
            raise SystemExit(f"error: {count} weights, expected a multiple of {block} for {name}")
        source = (ctypes.c_float * count).from_buffer(weights)
        quantized = ctypes.create_string_buffer(count // block * size)
        self.library.ggml_quantize_chunk(number, source, quantized, 0, 1, count, None)
        back = array.array("f", bytes(4 * count))
        target = (ctypes.c_float * count).from_buffer(back)
        dequantize = getattr(self.library, f"dequantize_row_{name}")
        dequantize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        dequantize(quantized, target, count)
        return back


def matrices(file, limit):
    """Name, columns and first rows as f32 of each matrix in a safetensors file."""
    with open(file, "rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        header = json.loads(source.read(length))
        for name, tensor in sorted(header.items()):
            if name == "__metadata__" or len(tensor["shape"]) != 2:
                continue
            rows, columns = tensor["shape"]
            count = min(rows, max(1, limit // columns)) * columns
            source.seek(8 + length + tensor["data_offsets"][0])
            yield name, columns, widen(tensor["dtype"], source, count)


def widen(dtype, source, count):
    if dtype == "F32":
        return array.array("f", source.read(4 * count))
    halves = source.read(2 * count)
    if dtype == "F16":
        return array.array("f", struct.unpack(f"<{count}e", halves))
    if dtype != "BF16":
        raise SystemExit(f"error: dtype {dtype}, expected F32, F16 or BF16")
    wide = bytearray(4 * count)
    wide[2::4], wide[3::4] = halves[0::2], halves[1::2]
    return array.array("f", bytes(wide))


def kind(name):
    if "embed" in name or "lm_head" in name:
        return "vocabulary"
    return "feed-forward" if "mlp" in name else "attention"


def rmse(*arguments):
    """Lines of the example `rmse`, split."""
    command = ["cargo", "run", "--quiet", "-p", "olmo2-kernels", "--example", "rmse", "--"]
    run = subprocess.run(command + [str(a) for a in arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return [line.split() for line in run.stdout.decode().splitlines()]


def sets(work, files, limit):
    """Name of the set, columns and file of each matrix, as raw f32."""
    rmse("write", work)
    for name in ("gauss", "t8", "t5", "rows-columns"):
        yield name, 1024, work / f"{name}.f32"
    for file in [DEMO, *files]:
        for name, columns, weights in matrices(file, limit):
            raw = work / f"{name}.f32"
            raw.write_bytes(weights.tobytes())
            yield f"{file.parent.name} {kind(name)}", columns, raw


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ggml", type=pathlib.Path, help="folder of libggml-base.so")
    parser.add_argument("checkpoints", nargs="*", type=pathlib.Path, help="safetensors files")
    parser.add_argument("--limit", type=int, default=1 << 20, help="weights of each matrix")
    args = parser.parse_args()
    ggml = Ggml(args.ggml.resolve())
    squares = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as work:
        for name, columns, file in sets(pathlib.Path(work), args.checkpoints, args.limit):
            weights = array.array("f", file.read_bytes())
            norm = math.dist(weights, array.array("f", bytes(4 * len(weights))))
            squares[name, "all"] += norm**2
            for format in FORMATS:
                squares[name, format] += math.dist(weights, ggml.through(format, weights)) ** 2
            [(_, eight, four, *_)] = rmse(columns, file)
            squares[name, "q8"] += (float(eight) / 100 * norm) ** 2
            squares[name, "q4"] += (float(four) / 100 * norm) ** 2
            file.unlink()
    return report(squares)


def report(squares):
    print("| set |", " | ".join(COLUMNS), "| q4 / q4_K |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    print("| bits a weight | 8.5 | 8.5 | 4.5 | 4.5 | 4.5 | |")
    worst = 0.0
    for name in dict.fromkeys(name for name, _ in squares):
        error = {c: 100 * math.sqrt(squares[name, c] / squares[name, "all"]) for c in COLUMNS}
        share = error["q4"] / error["q4_K"]
        worst = max(worst, share)
        print(f"| {name} |", " | ".join(f"{error[c]:.3f}" for c in COLUMNS), f"| {share:.3f} |")
    if worst > BOUND:
        print(f"error: q4 / q4_K is {worst:.3f}, expected at most {BOUND}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
