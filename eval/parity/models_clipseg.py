"""CLIPSeg cases: rd16, rd64 and the refined decoder, and the original decoder-only files."""

import json
import tempfile
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

import models_clip
from models_folder import Cases, write_json, write_pickle, write_safetensors
from models_naming import clipseg_to_original
from models_weights import randn, randomise, uninitialised

REFERENCE = f"transformers {transformers.__version__} CLIPSegForImageSegmentation"

# Ten vision layers, so that the published `extract_layers` [3, 6, 9] hold, and the published patch
# of 16, which the refined decoder's two transposed convolutions (4 and 4) assume.
TINY_TEXT = models_clip.TINY_TEXT | {
    "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "projection_dim": 12,
    "num_hidden_layers": 1,
}  # fmt: skip
TINY_VISION = models_clip.TINY_VISION | {
    "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 10, "num_attention_heads": 3,
    "image_size": 32, "patch_size": 16, "projection_dim": 12,
}  # fmt: skip


def build(seed: str, text: dict, vision: dict, **options) -> CLIPSegForImageSegmentation:
    config = CLIPSegConfig(text_config=text, vision_config=vision, **options)
    with uninitialised():
        model = CLIPSegForImageSegmentation(config)
    return randomise(model, seed)


def saved_config(model) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(scratch)
        return json.loads((Path(scratch) / "config.json").read_text())


@torch.no_grad()
def outputs(model: CLIPSegForImageSegmentation, inputs: dict) -> dict[str, torch.Tensor]:
    """Runs the model once for each kind of condition that is among the inputs."""
    found = {}
    pixels = inputs["pixel_values"]
    if "input_ids" in inputs:
        output = model(pixel_values=pixels, input_ids=inputs["input_ids"])
        found["conditional_embeddings"] = output.conditional_embeddings
        found["logits"] = output.logits
    if "conditional_pixel_values" in inputs:
        output = model(
            pixel_values=pixels, conditional_pixel_values=inputs["conditional_pixel_values"]
        )
        found["conditional_embeddings_image_prompt"] = output.conditional_embeddings
        found["logits_image_prompt"] = output.logits
    if "conditional_embeddings" in inputs:
        output = model(
            pixel_values=pixels, conditional_embeddings=inputs["conditional_embeddings"]
        )
        found["logits_conditional_embeddings"] = output.logits
    return found


def small(cases: Cases) -> None:
    # The picture is larger than the position grid (3 x 3 patches on 2 x 2), then equal to it.
    for name, batch, size, options in (
        ("clipseg-rd64", 1, 48, {"reduce_dim": 16}),
        ("clipseg-rd16", 2, 32, {"reduce_dim": 8}),
        ("clipseg-refined", 1, 48, {"reduce_dim": 8, "use_complex_transposed_convolution": True}),
    ):
        model = build(
            name,
            TINY_TEXT,
            TINY_VISION,
            projection_dim=12,
            decoder_intermediate_size=20,
            **options,
        )
        inputs = {
            "pixel_values": randn(f"{name}.pixels", batch, 3, size, size),
            "input_ids": models_clip.token_rows(f"{name}.ids", [2, 8][:batch], 16, 67),
        }
        if name == "clipseg-rd16":
            # Prompt pictures of another size than the query's: one patch.
            inputs["conditional_pixel_values"] = randn(f"{name}.prompt", batch, 3, 16, 16)
        else:
            inputs["conditional_embeddings"] = randn(f"{name}.condition", batch, 12)
        expected = outputs(model, inputs)
        state = model.state_dict()
        folder = cases.weights / name
        write_json(folder / "config.json", saved_config(model))
        write_safetensors(folder / "model.safetensors", state, torch.float16)
        cases.write(name, "clipseg", REFERENCE, folder, inputs, expected)

        published = {"clipseg-rd64": "rd64-uni", "clipseg-rd16": "rd16-uni"}
        file = cases.weights / "clipseg-original" / f"{published.get(name, 'rd64-uni-refined')}.pth"
        unused = nn.Linear(12, options["reduce_dim"])
        randomise(unused, f"{name}.reduce")
        reduce = unused if name != "clipseg-rd64" else None
        write_pickle(file, clipseg_to_original(state, reduce))
        cases.write(
            f"{name}-original",
            "clipseg",
            REFERENCE,
            file,
            io=name,
            options={"clip": folder},
            output_names=list(expected),
        )


def full(cases: Cases) -> None:
    """rd64 and its refined form around the weights of the ViT-B/16 case, at 352 px."""
    published = models_clip.published_config("ViT-B-16")
    for name, options in (
        ("clipseg-rd64-352", {}),
        ("clipseg-rd64-refined-352", {"use_complex_transposed_convolution": True}),
    ):
        if not cases.wanted(name, f"{name}-original"):
            continue
        text = published["text_config"] | {"model_type": "clipseg_text_model"}
        vision = published["vision_config"] | {"model_type": "clipseg_vision_model"}
        model = build(name, text, vision, projection_dim=512, **options)
        clip = models_clip.published_clip("ViT-B-16")
        model.clip.load_state_dict(clip.state_dict())
        openai = cases.weights / "openai-published" / "ViT-B-16.pt"
        if not openai.exists():
            models_clip.write_published_openai(cases, "ViT-B-16", clip)
        inputs = {
            "pixel_values": randn(f"{name}.pixels", 2, 3, 352, 352),
            "input_ids": models_clip.token_rows(f"{name}.ids", [3, 9], 77, 49408),
            "conditional_pixel_values": randn(f"{name}.prompt", 2, 3, 352, 352),
        }
        expected = outputs(model, inputs)
        folder = cases.weights / name
        write_json(folder / "config.json", saved_config(model))
        write_safetensors(folder / "model.safetensors", model.state_dict())
        cases.write(name, "clipseg", REFERENCE, folder, inputs, expected)
        stem = "rd64-uni-refined" if options else "rd64-uni"
        file = cases.weights / "clipseg-original" / f"{stem}.pth"
        write_pickle(file, clipseg_to_original(model.state_dict(), None))
        cases.write(
            f"{name}-original",
            "clipseg",
            REFERENCE,
            file,
            io=name,
            options={"clip": openai},
            output_names=list(expected),
        )
