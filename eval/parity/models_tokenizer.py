"""CLIP's tokenizer files, whole or cut to the first merges, from the table that open_clip holds."""

import gzip
import json
from pathlib import Path

import open_clip

from models_folder import write_json

BYTES = 256
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]


def _byte_symbols() -> list[str]:
    """The printable stand-ins of the 256 bytes, in the order in which CLIP numbers them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = BYTES - len(printable)
    return [chr(code) for code in printable] + [chr(BYTES + index) for index in range(others)]


def _merges() -> list[str]:
    table = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.open(table, "rt", encoding="utf-8").read().split("\n")
    # The first line names the version; CLIP takes as many merges as fit 49,408 tokens.
    return lines[1 : 49152 - BYTES - 2 + 1]


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """`vocab.json`, `merges.txt` and the two small files, as in the published pipelines."""
    count = vocab_size - 2 * BYTES - len(SPECIAL)
    merges = _merges()[:count]
    if len(merges) != count:
        raise ValueError(f"{vocab_size} tokens need {count} merges; there are {len(merges)}")
    symbols = _byte_symbols()
    tokens = symbols + [f"{symbol}</w>" for symbol in symbols]
    tokens += ["".join(merge.split()) for merge in merges] + SPECIAL
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != vocab_size:
        raise ValueError(f"{len(vocabulary)} different tokens where {vocab_size} were expected")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    write_json(
        folder / "special_tokens_map.json",
        {
            "bos_token": _special("<|startoftext|>", normalized=True),
            "eos_token": _special("<|endoftext|>", normalized=True),
            "pad_token": "<|endoftext|>",
            "unk_token": _special("<|endoftext|>", normalized=True),
        },
    )
    added = {"__type": "AddedToken"}
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": added | _special("<|startoftext|>", normalized=True),
            "do_lower_case": True,
            "eos_token": added | _special("<|endoftext|>", normalized=True),
            "errors": "replace",
            "model_max_length": 77,
            "name_or_path": "openai/clip-vit-large-patch14",
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": added | _special("<|endoftext|>", normalized=True),
        },
    )


def _special(content: str, normalized: bool) -> dict:
    flags = {"lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}
    return {"content": content} | flags
