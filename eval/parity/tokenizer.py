"""Reference values for the CLIP tokenizer, by `transformers.CLIPTokenizer`.

Made with transformers 5.23.0, tokenizers 0.23.3 and open_clip_torch 3.3.0 (the last only for the
file `bpe_simple_vocab_16e6.txt.gz`, OpenAI's CLIP vocabulary). No hub is needed: `vocab.json` and
`merges.txt` are derived from that file as OpenAI's `SimpleTokenizer` derives its vocabulary.

    python eval/parity/tokenizer.py                 # writes eval/parity/fixtures/tokenizer/
    python eval/parity/tokenizer.py --data DIR      # also writes the crate's embedded merges

Written:

  strings.json.gz   2,000 strings, their ids padded and truncated to 77, their full lengths, their
                    decoded ids, and the part that truncation removed as diffusers prints it;
                    further the ids that published folder layouts (configuration files included)
                    give for a few prompts, and the vocabulary's SHA-256
  small/            a hand-made vocabulary of about 300 tokens as `tokenizer.json`, with ids at
                    context length 16

All strings are made here from a fixed seed; none is copied from a data set.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import tempfile
import unicodedata
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import open_clip
import transformers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

logging.set_verbosity_error()

SEED = 20250113
CONTEXT = 77
COUNT = 2000
BOS = "<|startoftext|>"
EOS = "<|endoftext|>"
HERE = Path(__file__).parent


def byte_alphabet():
    """GPT-2's byte-to-character table, in the order in which CLIP numbers it."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = [chr(b) for b in kept]
    alphabet += [chr(0x100 + i) for i in range(256 - len(kept))]
    return alphabet


def clip_merges():
    """The 48,894 merges that CLIP keeps of the 262,144 in OpenAI's file."""
    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.open(path).read().decode("utf-8").split("\n")
    return lines[1 : 49152 - 256 - 2 + 1]


def vocabulary(merges):
    alphabet = byte_alphabet()
    tokens = alphabet + [c + "</w>" for c in alphabet]
    tokens += ["".join(m.split()) for m in merges]
    tokens += [BOS, EOS]
    assert len(set(tokens)) == len(tokens)
    return {token: i for i, token in enumerate(tokens)}


def fingerprint(vocab, merges):
    """SHA-256 over the tokens by id, then the merges by rank, every number little-endian u32 and
    every string preceded by its length in bytes."""
    sha = hashlib.sha256(b"negkit tokenizer 1\0")

    def number(n):
        sha.update(n.to_bytes(4, "little"))

    def text(s):
        s = s.encode("utf-8")
        number(len(s))
        sha.update(s)

    number(len(vocab))
    for token, i in sorted(vocab.items(), key=lambda item: (item[1], item[0])):
        number(i)
        text(token)
    number(len(merges))
    for merge in merges:
        left, right = merge.split(" ")
        text(left)
        text(right)
    return sha.hexdigest()


OBJECTS = (
    "cat dog horse zebra bicycle motorcycle umbrella handbag pizza laptop keyboard bench sofa "
    "kite surfboard skateboard bottle wine glass toaster refrigerator traffic light fire hydrant "
    "stop sign giraffe elephant teddy bear hair dryer toothbrush vase scissors donut sandwich"
).split()
PLACES = "kitchen,beach,street,park,harbour,snowy hill,living room,stadium,train station,café".split(",")
PEOPLE = "a man,a woman,two children,an old couple,nobody,a crowd,someone,a chef,a skier".split(",")
NEGATIONS = [
    "A photo of {p} with no {o}.",
    "{p} in the {l}, but not a single {o} is visible",
    "a {l} without any {o} or {o2}",
    "There isn't a {o} in the {l}; there's only a {o2}.",
    "{p} who is not holding the {o}",
    "no {o}, no {o2}, just {p}",
    "The {o} doesn't belong to {p}, and they've never seen the {o2}",
    "neither the {o} nor the {o2} is in the {l}",
    "{p} can't find the {o}: it's absent from the {l}!",
    "a {l} (empty, {o}-free) & {n} {o2}s",
    "{n}x {o}, 0 {o2}, at {n2}:{n3} in the {l}",
]
SCRIPTS = {
    "latin": [(0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "ipa": [(0x250, 0x2FF)],
    "greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
    "cyrillic": [(0x400, 0x52F)],
    "armenian": [(0x531, 0x58A)],
    "hebrew": [(0x5D0, 0x5EA), (0x591, 0x5C7)],
    "arabic": [(0x620, 0x64A), (0x64B, 0x65F), (0x660, 0x669), (0xFB50, 0xFBB1)],
    "syriac": [(0x710, 0x74A)],
    "devanagari": [(0x900, 0x97F)],
    "bengali": [(0x985, 0x9CE), (0x9E6, 0x9EF)],
    "gurmukhi": [(0xA05, 0xA39)],
    "tamil": [(0xB85, 0xBCD)],
    "telugu": [(0xC05, 0xC4D)],
    "malayalam": [(0xD05, 0xD4D)],
    "sinhala": [(0xD85, 0xDC6)],
    "thai": [(0xE01, 0xE3A), (0xE40, 0xE5B)],
    "lao": [(0xE81, 0xEC4)],
    "tibetan": [(0xF00, 0xF6C)],
    "burmese": [(0x1000, 0x109F)],
    "georgian": [(0x10A0, 0x10FF), (0x1C90, 0x1CBF)],
    "jamo": [(0x1100, 0x11FF)],
    "ethiopic": [(0x1200, 0x135A)],
    "cherokee": [(0x13A0, 0x13F5), (0xAB70, 0xABBF)],
    "ogham": [(0x1680, 0x169C)],
    "runic": [(0x16A0, 0x16F8)],
    "khmer": [(0x1780, 0x17E9)],
    "mongolian": [(0x1800, 0x1878)],
    "punctuation": [(0x2010, 0x206F), (0x20A0, 0x20BF), (0x2190, 0x21FF), (0x2200, 0x22FF)],
    "letterlike": [(0x2100, 0x214F), (0x2150, 0x218B), (0x2460, 0x24FF)],
    "kana": [(0x3041, 0x30FF), (0xFF66, 0xFF9D)],
    "han": [(0x4E00, 0x9FA5), (0x3400, 0x4DB5)],
    "hangul": [(0xAC00, 0xD7A3)],
    "fullwidth": [(0xFF01, 0xFF5E)],
    "compatibility": [(0xF900, 0xFA6D), (0xFB00, 0xFB06), (0x2F800, 0x2FA1D)],
    "gothic": [(0x10330, 0x1034A)],
    "deseret": [(0x10400, 0x1044F)],
    "cuneiform": [(0x12000, 0x1236E)],
    "hieroglyphs": [(0x13000, 0x1342E)],
    "mathematical": [(0x1D400, 0x1D7FF)],
    "music": [(0x1D100, 0x1D126), (0x1D15E, 0x1D164)],
    "han extension b": [(0x20000, 0x2A6D6)],
}
EMOJI = [
    "😀", "🐈", "🐈‍⬛", "🚲", "❤️", "❤", "☎️", "👍🏽", "👩‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🏴‍☠️",
    "🇰🇷", "🇩🇪🇫🇷", "1️⃣", "#️⃣", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "🧑🏿‍🤝‍🧑🏻", "👩🏽‍❤️‍💋‍👨🏿", "🤷🏼‍♀️", "🚫", "❌", "🙅‍♂️", "🫠", "🧌", "\u200d", "\ufe0f", "\U0001f3fb",
]  # fmt: skip
ENTITIES = [
    "&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&nbsp;", "&eacute;", "&#x1F600;", "&#8217;", "&hellip;",
    "&copy", "&notin;", "&amp;amp;", "<br/>", "<b>", "</b>", "<!-- no dog -->", "&#0;", "&#xD800;", "&bogus;",
]  # fmt: skip
SPACES = [
    " ", "  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680",
    "\u2000", "\u2003", "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060",
    "\u3000", "\ufeff", "\u180e",
]  # fmt: skip
SPECIALS = [
    BOS, EOS, "<|STARTOFTEXT|>", "<|EndOfText|>", "<|endoftext|", "|endoftext|>", "<|endoftext|>!!",
    "<|ENDOFTEXT|>!!", "<|startoftext|>s", "</w>", "a</w>", "<start_of_text>", "<|pad|>", "<|endoftext|>" * 3,
    "<|end\u200boftext|>", "<|ｅndoftext|>", "'<|endoftext|>'s", "<<|endoftext|>>",
]  # fmt: skip
CASED = [
    "İstanbul", "ISTANBUL", "ıIiİ", "STRASSE straße STRAẞE", "ΟΔΥΣΣΕΥΣ", "Σίσυφος ΣΑΣ", "ǅungla Ǆ ǆ",
    "K Å Ω K Å Ω", "ﬁne ﬂow oﬀice", "Ⅷ ⅷ", "ᲓᲔᲓᲐ", "ꭰꮳꮃ ᎠᎳ", "ẞ", "ŉ", "ͅ", "Ꙋꙋ", "ＦＵＬＬ width ｗＩＤＴＨ",
]  # fmt: skip


def plain_strings():
    """Strings that a person chose, one by one."""
    out = ["", " ", "   ", "\n", "\t \r\n", "\xa0", "\u3000\u2003", "\u200b", "\ufeff", "\x00", "\x00a\x00 b", "\x7f"]
    out += [
        "a photo of a cat",
        "A photo of a cat.",
        "a photo of a dog, not a cat",
        "it's they're we've i'm you'll he'd don't can't 's 't 're 've 'm 'll 'd",
        "IT'S THEY'RE WE'VE I'M YOU'LL HE'D",
        "it’s they’re",
        "''s''t '' ' 's's 'st 'res",
        "0 1 10 2024 3.14 1,000,000 1e-6 0x1F ½ ² ٣ ४ ௧ Ⅷ ①",
        "hello,world!how...are??you;;[x]{y}(z)<w>",
        "C++ C# .NET foo_bar foo-bar foo/bar foo\\bar @user #tag $5 50% ^_^ ~ ` | &",
        "a" * 5, "a b c d e f g", "ABC", "aBcDeF", "naïve façade coöperate", "e\u0301 é E\u0301 É",
        "\u1100\u1161\u11a8 각", "\u0915\u093c \u0958", "\u212b \u00c5 A\u030a", "q\u0307\u0323 q\u0323\u0307",
        "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
        "שלום עולם", "שָׁלוֹם", "مرحبا بالعالم", "العربيّة ١٢٣", "\u202babc\u202c \u2066אבג\u2069 \u200f!",
        "\u200eleft\u200f right", "سلام cat שלום dog", "你好，世界", "こんにちは世界", "안녕하세요 세계", "สวัสดีชาวโลก",
        "नमस्ते दुनिया", "Привет, мир", "Γειά σου Κόσμε", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒻𝑜𝓃𝓉𝓈", "𐍈 𐐀𐐨", "\U0010ffff", "\ue000", "\ufffd", "\ufffe",
        "a photo of a <cat-toy> on a table", "an image without   multiple    spaces", " leading", "trailing ",
        "line\nbreak", "tab\tbetween", "https://example.org/a?b=c&d=%20#e", "someone@example.org",
        "highly detailed, (masterpiece:1.2), [blurry], ((no people)), 8k, f/1.8", "AND BREAK :0.5>",
    ]  # fmt: skip
    return out + SPECIALS + CASED + ENTITIES + EMOJI + SPACES


def words(rng, n):
    pool = OBJECTS + "the a of no not without and in on with is are never nothing".split()
    return " ".join(rng.choice(pool) for _ in range(n))


def caption(rng):
    text = rng.choice(NEGATIONS).format(
        p=rng.choice(PEOPLE), o=rng.choice(OBJECTS), o2=rng.choice(OBJECTS), l=rng.choice(PLACES),
        n=rng.randint(0, 20), n2=rng.randint(0, 23), n3=rng.randint(10, 59),
    )  # fmt: skip
    return rng.choice([str, str, str.upper, str.title, str.capitalize])(text)


def script_text(rng):
    ranges = SCRIPTS[rng.choice(sorted(SCRIPTS))]
    out = []
    for _ in range(rng.randint(1, 7)):
        # Unassigned code points are left to `any_text`: what is a letter depends on the Unicode
        # version, and these strings test scripts.
        word = [chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 6))]
        out.append("".join(c for c in word if unicodedata.category(c) != "Cn"))
    text = rng.choice([" ", " ", " ", "", ", ", "-"]).join(out)
    return unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKD"]), text) if rng.random() < 0.4 else text


def emoji_text(rng):
    parts = [rng.choice(EMOJI) if rng.random() < 0.7 else rng.choice(OBJECTS) for _ in range(rng.randint(1, 9))]
    return rng.choice(["", " "]).join(parts)


def entity_text(rng):
    parts = [rng.choice(ENTITIES) if rng.random() < 0.5 else rng.choice(OBJECTS) for _ in range(rng.randint(2, 9))]
    return rng.choice(["", " "]).join(parts)


def control_text(rng):
    parts = []
    for _ in range(rng.randint(1, 14)):
        kind = rng.random()
        if kind < 0.4:
            parts.append(rng.choice(SPACES))
        elif kind < 0.6:
            parts.append(chr(rng.choice([*range(0x20), *range(0x7F, 0xA0)])))
        else:
            parts.append(rng.choice(OBJECTS))
    return "".join(parts)


def special_text(rng):
    parts = [rng.choice(SPECIALS) if rng.random() < 0.5 else words(rng, 2) for _ in range(rng.randint(1, 6))]
    return rng.choice(["", " ", "!"]).join(parts)


def combining_text(rng):
    out = ""
    for _ in range(rng.randint(2, 14)):
        out += chr(rng.choice([rng.randint(0x41, 0x7A), rng.randint(0xC0, 0x17F), 0x20]))
        out += "".join(chr(rng.randint(0x300, 0x36F)) for _ in range(rng.choice([0, 1, 1, 2, 5])))
    return unicodedata.normalize(rng.choice(["NFC", "NFD"]), out) if rng.random() < 0.5 else out


def cased_text(rng):
    parts = rng.sample(CASED, rng.randint(1, 4))
    return rng.choice([str, str.upper, str.lower, str.swapcase])(" ".join(parts))


def bidi_text(rng):
    marks = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c"
    parts = []
    for _ in range(rng.randint(2, 8)):
        low, high = rng.choice([(0x5D0, 0x5EA), (0x621, 0x64A), (0x61, 0x7A)])
        parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 7))))
        parts.append(rng.choice(["", " ", rng.choice(marks)]))
    return "".join(parts)


def long_word(rng):
    size = rng.choice([20, 60, 120, 250, 300, 700])
    pool = rng.choice(["abcdefghijklmnopqrstuvwxyz", "ab", "!?-=", "аеиоуў", "ééé", "日本語", "0123456789", "aA1!"])
    return "".join(rng.choice(pool) for _ in range(size))


def long_text(rng):
    parts = [caption(rng) if rng.random() < 0.2 else words(rng, 10) for _ in range(50)]
    return " ".join(" ".join(parts).split()[:500])


def any_text(rng):
    out = []
    while len(out) < rng.randint(1, 16):
        c = rng.choice([rng.randint(0, 0x2FFF), rng.randint(0, 0xFFFF), rng.randint(0, 0x10FFFF)])
        if not 0xD800 <= c <= 0xDFFF:
            out.append(chr(c))
    return "".join(out)


def ascii_noise(rng):
    return "".join(chr(rng.randint(0x20, 0x7E)) for _ in range(rng.randint(1, 60)))


def digits(rng):
    parts = [str(rng.randint(0, 10 ** rng.randint(1, 9))) for _ in range(rng.randint(1, 6))]
    return rng.choice([" ", ",", ".", "-", "", " x ", "°"]).join(parts)


def contraction(rng):
    ends = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "'", "''", "'x"]
    return rng.choice([" ", " ", ""]).join(rng.choice(OBJECTS) + rng.choice(ends) for _ in range(rng.randint(1, 8)))


def boundary_text(rng):
    """About as long as the context: 73 to 79 one-token words."""
    return " ".join(rng.choice(["cat", "dog", "no", "not", "red", "."]) for _ in range(rng.randint(73, 79)))


MAKERS = [
    (caption, 330), (script_text, 420), (emoji_text, 120), (entity_text, 80), (control_text, 130),
    (special_text, 130), (combining_text, 100), (cased_text, 50), (bidi_text, 60), (long_word, 60),
    (long_text, 30), (any_text, 110), (ascii_noise, 90), (digits, 60), (contraction, 60), (boundary_text, 40),
]  # fmt: skip


def strings():
    rng = random.Random(SEED)
    out = plain_strings()
    for make, n in MAKERS:
        out += [make(rng) for _ in range(n)]
    out = list(dict.fromkeys(out))
    while len(out) < COUNT:
        text = caption(rng)
        if text not in out:
            out.append(text)
    assert len(out) == COUNT, len(out)
    return out


def encode(tokenizer, texts, length):
    batch = tokenizer(texts, padding="max_length", truncation=True, max_length=length)
    return batch["input_ids"]


def removed_text(tokenizer, text, length):
    """What diffusers' `encode_prompt` warns about: the ids from `model_max_length - 1` up to the
    end-of-text token, decoded."""
    ids = tokenizer(text)["input_ids"]
    return tokenizer.decode(ids[length - 1 : -1]) if len(ids) > length else None


def added(content, normalized, typed=True):
    token = {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}
    return {"__type": "AddedToken", **token} if typed else token


def folder_variants():
    """The configuration files that published CLIP and Stable Diffusion folders come with."""
    config = {
        "add_prefix_space": False, "bos_token": added(BOS, True), "do_lower_case": True,
        "eos_token": added(EOS, True), "errors": "replace", "model_max_length": 77, "pad_token": EOS,
        "tokenizer_class": "CLIPTokenizer", "unk_token": added(EOS, True),
    }  # fmt: skip
    specials = {
        "bos_token": added(BOS, True, False), "eos_token": added(EOS, True, False), "pad_token": EOS,
        "unk_token": added(EOS, True, False),
    }  # fmt: skip
    decoder = {
        "0": {**added("!", False, False), "special": True},
        "49406": {**added(BOS, True, False), "special": True},
        "49407": {**added(EOS, False, False), "special": True},
    }
    strings_only = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "tokenizer_class": "CLIPTokenizer"}
    return {
        "no configuration": {},
        "stable diffusion 1": {"tokenizer_config.json": config, "special_tokens_map.json": specials},
        "stable diffusion 2": {
            "tokenizer_config.json": config,
            "special_tokens_map.json": {**specials, "pad_token": "!"},
        },
        "added_tokens_decoder": {
            "tokenizer_config.json": {
                **strings_only, "added_tokens_decoder": decoder, "pad_token": "!", "model_max_length": 77,
            },
            # Not read where `added_tokens_decoder` is there; another pad token shows it.
            "special_tokens_map.json": {**specials, "pad_token": EOS},
        },
        "textual inversion": {
            "tokenizer_config.json": {**strings_only, "pad_token": EOS, "model_max_length": 10**30},
            "special_tokens_map.json": {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "unk_token": EOS},
            "added_tokens.json": {"<cat-toy>": 49408, "<Midjourney-Style>": 49409},
        },
    }  # fmt: skip


FOLDER_PROMPTS = [
    "", "a cat!!! no dog!", "a photo of <cat-toy> in <midjourney-style>", "x<|ENDOFTEXT|>!!y <|StartOfText|> z",
    "<|endoftext|>!<|startoftext|>", "! a ! b", "plain caption, nothing special",
]  # fmt: skip


def published_tokenizer_json(vocab, merges, flags):
    """A `tokenizer.json` as published since transformers 4: `CLIPConverter`'s pipeline."""
    return {
        "version": "1.0", "truncation": {"max_length": 77, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": [
            {"id": vocab[t], **added(t, n, False), "special": True} for t, n in flags
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Removed", "invert": True, "pattern": {
                "Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [EOS, vocab[EOS]], "cls": [BOS, vocab[BOS]],
                           "trim_offsets": False, "add_prefix_space": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": EOS, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": vocab, "merges": merges},
    }  # fmt: skip


def load(folder, files, layout):
    """Where nothing names CLIPTokenizer as its class, a `tokenizer.json` is used as it stands;
    otherwise transformers puts CLIPTokenizer's own pipeline around its vocabulary."""
    if layout == "tokenizer.json" and not files:
        return PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), bos_token=BOS, eos_token=EOS, unk_token=EOS, pad_token=EOS
        )
    return CLIPTokenizer.from_pretrained(folder)


def folders(vocab, merges):
    out = []
    for name, files in folder_variants().items():
        for layout in ["vocab.json", "tokenizer.json"]:
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                if layout == "vocab.json":
                    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
                    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
                else:
                    published = published_tokenizer_json(vocab, merges, [(BOS, True), (EOS, False)])
                    (folder / "tokenizer.json").write_text(json.dumps(published), encoding="utf-8")
                for file, content in files.items():
                    (folder / file).write_text(json.dumps(content), encoding="utf-8")
                tokenizer = load(folder, files, layout)
                longest = tokenizer.model_max_length
                out.append(
                    {
                        "name": name, "layout": layout, "files": files, "prompts": FOLDER_PROMPTS,
                        "ids": encode(tokenizer, FOLDER_PROMPTS, 24), "pad_id": tokenizer.pad_token_id,
                        "model_max_length": longest if longest < 10**20 else None, "size": len(tokenizer),
                    }
                )  # fmt: skip
    return out


SMALL_WORDS = (
    "a photo of the cat dog man woman red blue green circle square triangle small large and with without no not "
    "there is are neither nor never nothing left right above below on in under two three beside picture shows "
    "holding wearing standing sitting empty clean open closed umbrella bicycle kitchen window any people "
    "yellow purple white black bottle elephant mountain river sunset glasses absent missing excluding"
).split()
SMALL_PROMPTS = [
    "", "a photo of a cat", "No dog, not a CAT!", "a red circle without the blue square", "there isn't a triangle",
    "two large green circles above three small ones and nothing else on the left of the picture, 42",
    "café", "日本", "<|endoftext|>", "<|startoftext|> no <|endoftext|>", "neither nor never not no nothing",
]  # fmt: skip


def small_vocabulary():
    """BPE merges trained in the plain way over a few words: the most frequent pair, ties by order
    of the alphabet, until the vocabulary has 300 tokens."""
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-:;()<>|/")
    tokens = alphabet + [c + "</w>" for c in alphabet]
    corpus = [[*word[:-1], word[-1] + "</w>"] for word in SMALL_WORDS]
    merges = []
    while len(tokens) < 298:
        pairs = {}
        for word in corpus:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(f"{left} {right}")
        tokens.append(left + right)
        for word in corpus:
            i = 0
            while i + 1 < len(word):
                if word[i] == left and word[i + 1] == right:
                    word[i : i + 2] = [left + right]
                i += 1
    tokens += [BOS, EOS]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def write_small(folder):
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = small_vocabulary()
    published = published_tokenizer_json(vocab, merges, [(BOS, False), (EOS, False)])
    published["truncation"] = None
    (folder / "tokenizer.json").write_text(json.dumps(published, ensure_ascii=False) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "bos_token": BOS, "eos_token": EOS,
              "pad_token": EOS, "unk_token": EOS}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    expected = {
        "prompts": SMALL_PROMPTS,
        "ids": encode(tokenizer, SMALL_PROMPTS, 16),
        "vocab_size": len(vocab),
        "fingerprint": fingerprint(vocab, merges),
    }
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")


def write_gz(path, text):
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as out:
        out.write(text.encode("utf-8"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "fixtures" / "tokenizer")
    parser.add_argument("--data", type=Path, help="also write clip_merges.txt.gz, which the crate embeds, here")
    arguments = parser.parse_args()

    merges = clip_merges()
    vocab = vocabulary(merges)
    if arguments.data:
        write_gz(arguments.data / "clip_merges.txt.gz", "#version: 0.2\n" + "\n".join(merges) + "\n")
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges], model_max_length=CONTEXT)
    known = tokenizer("a photo of a cat")["input_ids"]
    assert known == [49406, 320, 1125, 539, 320, 2368, 49407], known

    texts = strings()
    full = [tokenizer(text)["input_ids"] for text in texts]
    ids = encode(tokenizer, texts, CONTEXT)
    removed = {i: r for i, text in enumerate(texts) if (r := removed_text(tokenizer, text, CONTEXT)) is not None}
    expected = {
        "made_with": {"transformers": transformers.__version__, "seed": SEED},
        "vocabulary": {"size": len(vocab), "merges": len(merges), "fingerprint": fingerprint(vocab, merges)},
        "strings": texts,
        "ids": ids,
        "lengths": [len(row) for row in full],
        "decoded": {i: tokenizer.decode(full[i]) for i in range(0, COUNT, 4) if len(full[i]) <= CONTEXT},
        "removed": removed,
        "folders": folders(vocab, merges),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_gz(arguments.out / "strings.json.gz", json.dumps(expected, ensure_ascii=False, separators=(",", ":")))
    write_small(arguments.out / "small")
    print(f"{len(set(texts))} different strings, {len(removed)} truncated")


if __name__ == "__main__":
    main()
