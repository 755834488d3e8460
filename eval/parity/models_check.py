"""Loads the written files again with the reference libraries' own loaders and compares.

The cases are written from models in memory; this proves that the files hold those models in
layouts that the libraries read, so that a difference seen by negkit is negkit's.
"""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTextModel, CLIPTextModelWithProjection

import models_clip
from models_folder import relative_l2


def check(root: Path, only: list[str] | None = None) -> bool:
    """Prints the worst difference of each case; false if one is over the case's tolerance."""
    good = True
    for path in sorted(root.glob("*/case.json")):
        case = json.loads(path.read_text())
        if only is not None and case["name"] not in only:
            continue
        tensors = load_file(path.parent / case.get("io", "io.safetensors"))
        inputs = {n.removeprefix("in."): t for n, t in tensors.items() if n.startswith("in.")}
        outputs = {n.removeprefix("out."): t for n, t in tensors.items() if n.startswith("out.")}
        if set(outputs) != set(case["outputs"]):
            raise ValueError(f"{path}: outputs differ from the tensors of the file")
        model = (path.parent / case["model"]).resolve()
        found = RUNNERS[case["kind"]](case, model, inputs, path.parent)
        worst = max(relative_l2(found[name], expected) for name, expected in outputs.items())
        verdict = "ok" if worst <= case["tolerance"]["relative_l2"] else "WRONG"
        good &= verdict == "ok"
        print(f"{verdict:5} {worst:.1e}  {case['name']}")
    return good


def _clip_text(case, model, inputs, folder):
    architecture = json.loads((model / "config.json").read_text())["architectures"][0]
    ids = inputs["input_ids"]
    if architecture == "CLIPModel":
        loaded = CLIPModel.from_pretrained(model, dtype=torch.float32)
        return models_clip.text_outputs(loaded.text_model, ids, loaded.text_projection)
    if architecture == "CLIPTextModelWithProjection":
        loaded = CLIPTextModelWithProjection.from_pretrained(model, dtype=torch.float32)
        return models_clip.text_outputs(loaded.text_model, ids, loaded.text_projection)
    loaded = CLIPTextModel.from_pretrained(model, dtype=torch.float32)
    return models_clip.text_outputs(loaded, ids)


def _clip_vision(case, model, inputs, folder):
    loaded = CLIPModel.from_pretrained(model, dtype=torch.float32)
    interpolate = case["options"].get("interpolate_pos_encoding", False)
    pixels = inputs["pixel_values"]
    return models_clip.vision_outputs(
        loaded.vision_model, pixels, loaded.visual_projection, interpolate
    )


def _clip(case, model, inputs, folder):
    ids, pixels = inputs["input_ids"], inputs["pixel_values"]
    if (model / "config.json").exists():
        loaded = CLIPModel.from_pretrained(model, dtype=torch.float32)
        return models_clip.hf_outputs(loaded, ids, pixels)
    if model.is_dir():
        loaded = open_clip.create_model(f"local-dir:{model}", precision="fp32").eval()
    else:
        loaded = models_clip.openai_model_for(model).eval()
    return models_clip.open_clip_outputs(loaded, ids, pixels)


RUNNERS = {"clip-text": _clip_text, "clip-vision": _clip_vision, "clip": _clip}
