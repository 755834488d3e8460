#!/usr/bin/env python3
"""Weights and inputs that every engine gets, and PyTorch's f32 outputs for them.

    cases.py FOLDER CASE…

The weights are random, at the published architectures and in the published layouts, made by the
functions that make the parity cases; what lies in the folder already is kept. A case is a parity
case (see `eval/parity/README.md`), so that `negkit parity FOLDER` says how far negkit is from the
reference on the very inputs that were timed.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "parity"))

import models_clip  # noqa: E402
import models_clipseg  # noqa: E402
import models_diffusion as diffusion  # noqa: E402
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: E402
from models_folder import Cases, write_json, write_safetensors  # noqa: E402
from models_naming import with_position_ids  # noqa: E402
from models_weights import randn  # noqa: E402
from transformers import (  # noqa: E402
    CLIPSegForImageSegmentation,
    CLIPTextModel,
    CLIPVisionModelWithProjection,
)

BF16_BOUND = 1.5e-2
"""Relative L2 error that a case allows: that of the strictest bf16 bar; f32 is a thousand times closer."""
CLIPS = {"b16": "ViT-B-16", "l14": "ViT-L-14"}


def stable_diffusion(root: Path) -> Path:
    """A whole Stable Diffusion 1.4 in f32 and, as the `fp16` variant, in f16."""
    folder = root / "weights" / "sd14"
    done = folder / "complete"
    if done.exists():
        return folder
    configs = {
        "text": diffusion.TEXT_CONFIG,
        "unet": diffusion.UNET_CONFIG,
        "vae": diffusion.VAE_CONFIG,
    }
    text = diffusion.build_text(configs["text"], "sd14.text")
    unet = diffusion.build_unet(configs["unet"], "sd14.unet")
    vae = diffusion.build_vae(configs["vae"], "sd14.vae")
    diffusion.write_pipeline(folder, text, unet, vae, configs)
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        state = load_file(folder / part / f"{stem}.safetensors")
        write_safetensors(folder / part / f"{stem}.fp16.safetensors", state, torch.float16)
    # stable-diffusion.cpp reads single files.
    single = folder.parent / "sd14-single-file" / "sd-v1-4.safetensors"
    write_safetensors(single, diffusion.compvis_state(text, unet, vae), torch.float16)
    done.touch()
    return folder


def clip(root: Path, name: str) -> Path:
    folder = root / "weights" / f"clip-{name.lower()}"
    done = folder / "complete"
    if not done.exists():
        model = models_clip.published_clip(name)
        write_json(folder / "config.json", models_clip.published_config(name))
        lengths = {"text_model.": 77, "vision_model.": model.vision_model.embeddings.num_positions}
        state = with_position_ids(model.state_dict(), lengths)
        write_safetensors(folder / "model.safetensors", state)
        done.touch()
    return folder


def clipseg(root: Path) -> Path:
    folder = root / "weights" / "clipseg-rd64"
    done = folder / "complete"
    if not done.exists():
        published = models_clip.published_config("ViT-B-16")
        text = published["text_config"] | {"model_type": "clipseg_text_model"}
        vision = published["vision_config"] | {"model_type": "clipseg_vision_model"}
        model = models_clipseg.build("bench.clipseg", text, vision, projection_dim=512)
        write_json(folder / "config.json", models_clipseg.saved_config(model))
        write_safetensors(folder / "model.safetensors", model.state_dict())
        diffusion.write_tokenizer(folder, 49408)
        done.touch()
    return folder


def lengths(count: int) -> list[int]:
    """Tokens of each row of a batch of texts: from short to as long as they may be."""
    return [3 + 11 * row % 72 for row in range(count)]


@torch.inference_mode()
def write_case(cases: Cases, root: Path, name: str) -> None:
    """Draws the inputs of one case and runs the reference on them."""
    if name.startswith("unet-"):
        side, batch = map(int, name.split("-")[1:])
        folder = stable_diffusion(root) / "unet"
        model = UNet2DConditionModel.from_pretrained(folder).eval()
        # As guidance asks for it: the same step for all samples.
        inputs = diffusion.unet_inputs(name, [501] * batch, side // 8, side // 8, 77, 768)
        found = diffusion.unet_outputs(model, inputs)
        kind, reference = "unet", f"{diffusion.DIFFUSERS} UNet2DConditionModel"
    elif name.startswith("vae-decode-"):
        side = int(name.rsplit("-", 1)[1])
        folder = stable_diffusion(root) / "vae"
        model = AutoencoderKL.from_pretrained(folder).eval()
        inputs = {"latents": randn(name, 1, 4, side // 8, side // 8) * 5}
        found = diffusion.decode_outputs(model, inputs)
        kind, reference = "vae-decode", f"{diffusion.DIFFUSERS} AutoencoderKL"
    elif name.startswith("clip-text-"):
        folder = stable_diffusion(root) / "text_encoder"
        model = CLIPTextModel.from_pretrained(folder).eval()
        inputs = {"input_ids": models_clip.token_rows(name, lengths(int(name[10:])), 77, 49408)}
        found = models_clip.text_outputs(model, inputs["input_ids"])
        kind, reference = "clip-text", f"{models_clip.TRANSFORMERS} CLIPTextModel"
    elif name.startswith("clip-vision-"):
        size, batch = name[12:].split("-")
        folder = clip(root, CLIPS[size])
        model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
        inputs = {"pixel_values": randn(name, int(batch), 3, 224, 224)}
        output = model(**inputs)
        found = {"image_embeds": output.image_embeds, "last_hidden_state": output.last_hidden_state}
        kind, reference = "clip-vision", f"{models_clip.TRANSFORMERS} CLIPVisionModelWithProjection"
    elif name.startswith("clipseg-"):
        phrases = int(name[8:])
        folder = clipseg(root)
        model = CLIPSegForImageSegmentation.from_pretrained(folder).eval()
        # One picture: transformers wants it once for every phrase.
        picture = randn(name, 1, 3, 352, 352).expand(phrases, -1, -1, -1).contiguous()
        inputs = {
            "pixel_values": picture,
            "input_ids": models_clip.token_rows(f"{name}.ids", lengths(phrases), 77, 49408),
        }
        found = {
            key: value.reshape(phrases, *value.shape[-2:]) if key == "logits" else value
            for key, value in models_clipseg.outputs(model, inputs).items()
        }
        kind, reference = "clipseg", models_clipseg.REFERENCE
    else:
        raise SystemExit(f"unknown case '{name}'")
    cases.write(name, kind, reference, folder, inputs, found, relative_l2=BF16_BOUND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("case", nargs="*", help="cases; `sd14` and `clipseg` are weights alone")
    arguments = parser.parse_args()
    root = arguments.folder.resolve()
    cases = Cases(root / "cases")
    cases.weights = root / "weights"
    weights = {"sd14": stable_diffusion, "clipseg": clipseg}
    for name in arguments.case:
        if name in weights:
            weights[name](root)
        elif not (root / "cases" / name / "case.json").exists():
            print(f"case {name}", file=sys.stderr, flush=True)
            write_case(cases, root, name)


if __name__ == "__main__":
    main()
