#!/usr/bin/env python3
"""Write an OLMo 2 or Olmo 3 checkpoint with seeded random weights, in the layout of the Hugging Face hub.

    make_checkpoint.py OUT --preset 1b                 # the shape of OLMo-2-0425-1B, bf16, 2.97 GB
    make_checkpoint.py OUT --preset gqa-tiny --seed 3  # a few hundred kilobytes
    make_checkpoint.py OUT --preset 1b --set num_hidden_layers=2 --dtype f32

OUT gets config.json, generation_config.json and model.safetensors, or, above --shard-bytes,
model-0000i-of-0000n.safetensors with model.safetensors.index.json. Needs numpy alone. The same
preset, seed, --set and dtype give the same bytes on every machine, so logits computed elsewhere
(the folders beside this file) can be compared. Weights are random: the text such a model writes means nothing;
its shapes, sizes and speed are those of the real model. No tokenizer is written: copy
a real tokenizer.json beside it where a real one is wanted (vocab 100278, padded to 100352 rows).
"""
import argparse, hashlib, json, struct
from pathlib import Path
import numpy as np

# hidden, intermediate, layers, heads, kv_heads, vocab: the released models' own config.json
PRESETS = {
    "1b": (2048, 8192, 16, 16, 16, 100352),
    "7b": (4096, 11008, 32, 32, 32, 100352),
    "13b": (5120, 13824, 40, 40, 40, 100352),
    "32b": (5120, 27648, 64, 40, 8, 100352),
    "mha-tiny": (64, 176, 3, 4, 4, 512),
    "gqa-tiny": (96, 256, 4, 6, 2, 512),
    "mqa-tiny": (64, 128, 2, 4, 1, 300),
    "olmo3-7b": (4096, 11008, 32, 32, 32, 100278),
    "olmo3-32b": (5120, 27648, 64, 40, 8, 100278),
    "olmo3-tiny": (64, 128, 8, 4, 2, 300),
}
# Released Olmo 3 files: YaRN from 8,192 to 65,536 positions (the full-attention layers alone use it), a window of 4,096
OLMO3 = {"sliding_window": 4096, "max_position_embeddings": 65536, "rope_scaling": {
    "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192,
    "attention_factor": 1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0}}


def config(preset, overrides):
    hidden, inter, layers, heads, kv, vocab = PRESETS[preset]
    c = {
        "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2",
        "attention_bias": False, "attention_dropout": 0.0,
        "hidden_act": "silu", "hidden_size": hidden, "initializer_range": 0.02,
        "intermediate_size": inter, "max_position_embeddings": 4096,
        "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": kv,
        "bos_token_id": None, "eos_token_id": 100257 if vocab > 100257 else vocab - 2,
        "pad_token_id": 100277 if vocab > 100277 else vocab - 1,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 500000,
        "tie_word_embeddings": False, "use_cache": True, "vocab_size": vocab,
    }
    if preset.startswith("olmo3"):
        c |= {"architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", **OLMO3}
        layers = overrides.get("num_hidden_layers", layers)
        c["layer_types"] = ["full_attention" if (i + 1) % 4 == 0 else "sliding_attention" for i in range(layers)]
        if preset == "olmo3-tiny":  # a window shorter than the prompts of the goldens
            c |= {"sliding_window": 8, "max_position_embeddings": 512}
            c["rope_scaling"] = {**c["rope_scaling"], "original_max_position_embeddings": 64}
    c.update(overrides)
    return {k: v for k, v in c.items() if v != "absent"}


def tensors(c):
    """(name, shape, kind) in file order; shapes are [out, in], as PyTorch stores a Linear."""
    h, i, v = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    d = c.get("head_dim") or h // c["num_attention_heads"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    yield "model.embed_tokens.weight", (v, h), "w"
    for n in range(c["num_hidden_layers"]):
        p = f"model.layers.{n}."
        yield p + "self_attn.q_proj.weight", (q, h), "w"
        yield p + "self_attn.k_proj.weight", (kv, h), "w"
        yield p + "self_attn.v_proj.weight", (kv, h), "w"
        yield p + "self_attn.o_proj.weight", (h, q), "w"
        if c["attention_bias"]:
            for name, size in (("q", q), ("k", kv), ("v", kv), ("o", h)):
                yield f"{p}self_attn.{name}_proj.bias", (size,), "w"
        yield p + "self_attn.q_norm.weight", (q,), "n"
        yield p + "self_attn.k_norm.weight", (kv,), "n"
        yield p + "mlp.gate_proj.weight", (i, h), "w"
        yield p + "mlp.up_proj.weight", (i, h), "w"
        yield p + "mlp.down_proj.weight", (h, i), "w"
        yield p + "post_attention_layernorm.weight", (h,), "n"
        yield p + "post_feedforward_layernorm.weight", (h,), "n"
    yield "model.norm.weight", (h,), "n"
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (v, h), "w"


def values(name, shape, kind, seed):
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
    if kind == "n":  # far from 1, so that a norm left out or put in the wrong place shows
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    fan_in = shape[-1]
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.9 / fan_in**0.5)


def encode(x, dtype):
    if dtype == "f32":
        return x.astype("<f4").tobytes()
    if dtype == "f16":
        return x.astype("<f2").tobytes()
    bits = x.astype(np.float32).view(np.uint32)  # bf16: round to nearest even
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", type=Path)
    ap.add_argument("--preset", choices=PRESETS, required=True)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--dtype", choices=["bf16", "f16", "f32"], default="bf16")
    ap.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="override a config field")
    ap.add_argument("--shard-bytes", type=int, default=5_000_000_000)
    a = ap.parse_args()
    overrides = {k: json.loads(v) for k, v in (s.split("=", 1) for s in a.set)}
    c = config(a.preset, overrides)
    c["torch_dtype"] = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[a.dtype]
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "config.json").write_text(json.dumps(c, indent=2) + "\n")
    (a.out / "generation_config.json").write_text(json.dumps(
        {k: c[k] for k in ("eos_token_id", "pad_token_id")}, indent=2) + "\n")
    size = {"bf16": 2, "f16": 2, "f32": 4}[a.dtype]
    shards, used = [[]], 0
    for name, shape, kind in tensors(c):
        n = int(np.prod(shape)) * size
        if used and used + n > a.shard_bytes:
            shards.append([]); used = 0
        shards[-1].append((name, shape, kind, n)); used += n
    weight_map = {}
    for k, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{k:05}-of-{len(shards):05}.safetensors"
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for name, shape, _, n in shard:
            header[name] = {"dtype": a.dtype.upper(), "shape": list(shape), "data_offsets": [offset, offset + n]}
            offset += n
            weight_map[name] = file
        head = json.dumps(header, separators=(",", ":")).encode()
        head += b" " * (-len(head) % 8)
        part = a.out / (file + ".part")
        with open(part, "wb") as f:
            f.write(struct.pack("<Q", len(head)) + head)
            for name, shape, kind, _ in shard:
                f.write(encode(values(name, shape, kind, a.seed), a.dtype))
        part.rename(a.out / file)
    if len(shards) > 1:
        total = sum(n for s in shards for *_, n in s)
        (a.out / "model.safetensors.index.json").write_text(json.dumps(
            {"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n")


if __name__ == "__main__":
    main()
