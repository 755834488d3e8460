"""Sentence embedding cases: BERT and MPNet folders as `sentence-transformers` publishes them."""

import json
import tempfile
import warnings
from pathlib import Path

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel, BertTokenizer, MPNetConfig, MPNetModel, MPNetTokenizer

from models_folder import Cases, write_json, write_safetensors
from models_weights import randomise, uninitialised

REFERENCE = f"sentence-transformers {sentence_transformers.__version__} SentenceTransformer"

TEXTS = [
    "a man without a hat",
    "is there no dog in the picture?",
    "Naïve CAFÉ, 12 o'clock!",
    "yes",
    "",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen",
]

WORDS = "a an is no not the without dog hat man picture in there yes two one".split()


def vocabulary(first: list[str], size: int) -> dict[str, int]:
    """`size` word pieces: every letter and digit alone and inside a word, and a few whole words."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*first, *letters, *(f"##{letter}" for letter in letters), *"?!,.'", *WORDS[1:]]
    pieces = list(dict.fromkeys(pieces))
    pieces += [f"[unused{index}]" for index in range(size - len(pieces))]
    return {piece: index for index, piece in enumerate(pieces[:size])}


def saved_files(thing) -> dict[str, str]:
    """The JSON files that `save_pretrained` of a tokenizer or configuration writes."""
    with tempfile.TemporaryDirectory() as scratch:
        thing.save_pretrained(scratch)
        return {path.name: path.read_text() for path in Path(scratch).glob("*.json")}


def write_folder(folder: Path, model, tokenizer, length: int, dtype=None, newer=False) -> None:
    """Writes the files under the names and with the fields of the published folders."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    for name, text in (saved_files(tokenizer) | saved_files(model.config)).items():
        value = json.loads(text)
        if name == "tokenizer.json":
            # What a published file says here is what its writer last used.
            value["truncation"] = {
                "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
            }  # fmt: skip
            (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        else:
            write_json(folder / name, value)
    write_safetensors(folder / "model.safetensors", model.state_dict(), dtype)
    prefix = "sentence_transformers."
    types = ["models.Transformer", "models.Pooling", "models.Normalize"]
    if newer:
        types = [
            "base.modules.transformer.Transformer",
            "sentence_transformer.modules.pooling.Pooling",
            "base.modules.normalize.Normalize",
        ]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": prefix + kind}
        for index, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    hidden = model.config.hidden_size
    if newer:
        pooling = {"embedding_dimension": hidden, "pooling_mode": "mean", "include_prompt": True}
        write_json(folder / "2_Normalize" / "config.json", {})
        config = json.loads((folder / "tokenizer_config.json").read_text())
        write_json(folder / "tokenizer_config.json", config | {"model_max_length": length})
    else:
        pooling = {
            "word_embedding_dimension": hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        }
        write_json(
            folder / "sentence_bert_config.json",
            {"max_seq_length": length, "do_lower_case": False},
        )
    write_json(folder / "1_Pooling" / "config.json", pooling)


@torch.no_grad()
def outputs(folder: Path, texts: list[str]) -> dict[str, torch.Tensor]:
    """Token ids (padded with 0), hidden states (0 at padding) and embeddings of `texts`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
        features = model.tokenize(texts)
    mask = features["attention_mask"]
    states = model[0](dict(features))["token_embeddings"]
    return {
        "input_ids": features["input_ids"] * mask,
        "token_embeddings": states * mask.unsqueeze(-1),
        "sentence_embedding": model.encode(texts, convert_to_tensor=True),
    }


def write_case(cases: Cases, name: str, folder: Path, texts: list[str]) -> None:
    cases.write(
        name,
        "sentence",
        REFERENCE,
        folder,
        {},
        outputs(folder, texts),
        options={"texts": texts},
        output_tolerances={"input_ids": {"relative_l2": 0.0}},
    )


def bert_tokenizer(size: int) -> BertTokenizer:
    return BertTokenizer(vocab=vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], size))


def mpnet_tokenizer(size: int) -> MPNetTokenizer:
    return MPNetTokenizer(vocab=vocabulary(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"], size))


def build(kind, config, seed: str):
    with uninitialised():
        model = kind(config)
    return randomise(model, seed)


def small(cases: Cases) -> None:
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
    sizes |= {"intermediate_size": 20, "vocab_size": 110}
    if cases.wanted("sentence-bert"):
        config = BertConfig(**sizes, max_position_embeddings=40)
        model = build(BertModel, config, "sentence-bert")
        folder = cases.weights / "sentence-bert"
        write_folder(folder, model, bert_tokenizer(110), 30, torch.float16)
        write_case(cases, "sentence-bert", folder, TEXTS)
    if cases.wanted("sentence-mpnet"):
        config = MPNetConfig(**sizes, max_position_embeddings=140, layer_norm_eps=1e-5)
        model = build(MPNetModel, config, "sentence-mpnet")
        folder = cases.weights / "sentence-mpnet"
        write_folder(folder, model, mpnet_tokenizer(110), 120, torch.float16, newer=True)
        # Far enough apart for every bucket of distances.
        write_case(cases, "sentence-mpnet", folder, [*TEXTS, "no dog " * 70])


def full(cases: Cases) -> None:
    """all-MiniLM-L6-v2 and all-mpnet-base-v2 at their published sizes."""
    if cases.wanted("sentence-minilm"):
        config = BertConfig(
            vocab_size=30522, hidden_size=384, num_hidden_layers=6, intermediate_size=1536
        )
        model = build(BertModel, config, "sentence-minilm")
        folder = cases.weights / "all-MiniLM-L6-v2"
        write_folder(folder, model, bert_tokenizer(30522), 256)
        write_case(cases, "sentence-minilm", folder, [*TEXTS, "no dog " * 200])
    if cases.wanted("sentence-mpnet-base"):
        config = MPNetConfig(vocab_size=30527, max_position_embeddings=514, layer_norm_eps=1e-5)
        model = build(MPNetModel, config, "sentence-mpnet-base")
        folder = cases.weights / "all-mpnet-base-v2"
        write_folder(folder, model, mpnet_tokenizer(30527), 384)
        write_case(cases, "sentence-mpnet-base", folder, [*TEXTS, "no dog " * 200])
