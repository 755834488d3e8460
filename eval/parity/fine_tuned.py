"""Loads what `negkit train negation` wrote, in every layout, and compares what the models compute.

Run: HF_HUB_OFFLINE=1 python eval/parity/fine_tuned.py OUT [NAME]

OUT is the command's folder and NAME the name of its state dicts, negationclip where nothing else is
said. `transformers/` is loaded by transformers (model, tokenizer and picture processor), NAME.pth by
torch.load(weights_only=True), NAME.safetensors by safetensors, and both state dicts, strictly, by
open_clip. All three models must hold the same weights, and give the same picture and text embeddings,
to 1e-5 as the norm of the difference over the norm.
"""

import json
import pathlib
import sys

import numpy
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

import models_naming

TEXTS = ["a room with no chairs", "a man who is not wearing a hat", "a cat"]


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def main(out, name="negationclip"):
    out = pathlib.Path(out)
    model = CLIPModel.from_pretrained(out / "transformers").eval()
    tokenizer = CLIPTokenizer.from_pretrained(out / "transformers")
    processor = CLIPImageProcessor.from_pretrained(out / "transformers")
    config = json.loads((out / "transformers" / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]

    archive = torch.load(out / f"{name}.pth", weights_only=True)
    mapped = torch.load(out / f"{name}.pth", weights_only=True, mmap=True)
    state = load_file(out / f"{name}.safetensors")
    expected = models_naming.hf_clip_to_openai(model.state_dict())
    for found in (archive, mapped, state):
        assert set(found) == set(expected), set(found) ^ set(expected)
        for key, tensor in expected.items():
            assert torch.equal(found[key], tensor), key

    rng = numpy.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=numpy.uint8)) for _ in range(2)]
    pixels = processor(pictures, return_tensors="pt").pixel_values
    length = text["max_position_embeddings"]
    tokens = tokenizer(TEXTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids = tokens.input_ids
    with torch.no_grad():
        reference = model(input_ids=ids, pixel_values=pixels)
    for source in ("pth", "safetensors"):
        clip = open_clip.CLIP(
            embed_dim=config["projection_dim"],
            vision_cfg={"image_size": vision["image_size"], "patch_size": vision["patch_size"],
                        "width": vision["hidden_size"], "layers": vision["num_hidden_layers"],
                        "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                        "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"]},
            text_cfg={"context_length": length, "vocab_size": text["vocab_size"], "width": text["hidden_size"],
                      "heads": text["num_attention_heads"], "layers": text["num_hidden_layers"],
                      "mlp_ratio": text["intermediate_size"] / text["hidden_size"]},
            quick_gelu=text["hidden_act"] == "quick_gelu",
        ).eval()
        open_clip.load_checkpoint(clip, str(out / f"{name}.{source}"), strict=True)
        with torch.no_grad():
            images, texts, scale = clip(pixels, ids)
        worst = max(
            relative(images, torch.nn.functional.normalize(reference.image_embeds, dim=-1)),
            relative(texts, torch.nn.functional.normalize(reference.text_embeds, dim=-1)),
            relative(scale * images @ texts.T, reference.logits_per_image),
        )
        assert worst < 1e-5, worst
        print(f"{name}.{source}: transformers and open_clip agree to {worst:.1e}")
    print(f"{len(expected)} tensors, the same in all three files")


if __name__ == "__main__":
    main(*sys.argv[1:])
