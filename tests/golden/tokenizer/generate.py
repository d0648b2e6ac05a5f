# /// script
# requires-python = ">=3.10"
# dependencies = ["regex"]
# ///
"""Writes cases.json: `uv run generate.py`, or python with regex installed.

Byte pair encoding by the definition: split by the file's pattern, then join the pair of lowest
rank until none is left. Added tokens are cut out first, the longest at each place.
"""

import json
from pathlib import Path

import regex

HERE = Path(__file__).parent
FILE = json.loads((HERE / "tokenizer.json").read_text(encoding="utf-8"))
VOCAB = FILE["model"]["vocab"]
RANKS = {tuple(merge.split(" ")): rank for rank, merge in enumerate(FILE["model"]["merges"])}
PATTERN = regex.compile(FILE["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])
ADDED = {token["content"]: token["id"] for token in FILE["added_tokens"]}
LONGEST_FIRST = sorted(ADDED, key=len, reverse=True)
CUT = regex.compile("(" + "|".join(regex.escape(token) for token in LONGEST_FIRST) + ")")

PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
CHARS = {byte: chr(byte) for byte in PRINTABLE}
CHARS |= {byte: chr(0x100 + i) for i, byte in enumerate(OTHERS)}


def word(text):
    parts = [CHARS[byte] for byte in text.encode()]
    while len(parts) > 1:
        rank, at = min(
            (RANKS.get(pair, len(RANKS)), i) for i, pair in enumerate(zip(parts, parts[1:]))
        )
        if rank == len(RANKS):
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [VOCAB[part] for part in parts]


def encode(text):
    ids = []
    for piece in CUT.split(text):
        if piece in ADDED:
            ids.append(ADDED[piece])
        else:
            ids += [id for match in PATTERN.finditer(piece) for id in word(match.group())]
    return ids


TEXTS = [
    "This is a test",
    "I'm sure they'LL say it's Bob'S, we'd've known",
    "In 1234567890 there were 12 and 3.14159",
    "fn main() {\n    println!(\"{}\", x[0] + 1);\n}\n\n\n",
    "tabs\t\t\tand  spaces   \r\nthen CRLF\r\n\r\n  end  ",
    "   leading, and trailing   ",
    "\n\n\n",
    "\u3000wide\u00a0and no-break spaces",
    "生活的真谛是什么？日本語のテキスト、한국어",
    "Привет, мир! Ελληνικά، العربية עברית हिन्दी ไทย",
    "naïve café: e\u0301 is not é, n\u0303 is not ñ",
    "👩‍🔬👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️",
    "zero\u200bwidth \ufeffmark \u202eturned",
    "a\x00b\x7f\x1b[0m",
    "…—“quotes” ½ Ⅷ ² ٣",
    "https://example.org/path?q=1&r=%20#frag user_name@host",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" * 3,
    "=" * 70 + "-" * 33,
    "<|endoftext|><|user|>\nHow are you doing?\n<|assistant|>\n",
    "a<|pad|><|im_start|>b<|im_end|>|||PHONE_NUMBER||||||IP_ADDRESS|||<|extra_id_1|><|extra_id_10|>",
    "<|endoftext |> <|endoftext",
]

cases = [{"text": text, "ids": encode(text)} for text in TEXTS]
lines = ",\n".join(json.dumps(case) for case in cases)
(HERE / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
