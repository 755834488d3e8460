"""Loads the written files again with the reference libraries' own loaders and compares.

The cases are written from models in memory; this proves that the files hold those models in
layouts that the libraries read, so that a difference seen by negkit is negkit's.
"""

import json
from pathlib import Path

import open_clip
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import load_file
from torch import nn
from transformers import (
    CLIPModel,
    CLIPSegForImageSegmentation,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

import models_blip
import models_clip
import models_clipseg
import models_diffusion
import models_sbert
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


def _variant(folder: Path) -> dict:
    variant = "fp16" if list(folder.glob("*.fp16.safetensors")) else None
    return {"variant": variant, "torch_dtype": torch.float32}


def _unet(case, model, inputs, folder):
    loaded = UNet2DConditionModel.from_pretrained(model, **_variant(model))
    return models_diffusion.unet_outputs(loaded, inputs)


def _vae_decode(case, model, inputs, folder):
    loaded = AutoencoderKL.from_pretrained(model, **_variant(model))
    if case["options"].get("tiling"):
        loaded.enable_tiling()
    return models_diffusion.decode_outputs(loaded, inputs)


def _vae_encode(case, model, inputs, folder):
    loaded = AutoencoderKL.from_pretrained(model, **_variant(model))
    return models_diffusion.encode_outputs(loaded, inputs)


def _clipseg(case, model, inputs, folder):
    # A decoder alone is put into the model whose tensors the case shares.
    whole = model if model.is_dir() else (folder / case["options"]["clip"]).resolve()
    if whole.is_file():
        whole = (folder.parent / "weights" / Path(case["io"]).parent.name).resolve()
    loaded = CLIPSegForImageSegmentation.from_pretrained(whole, dtype=torch.float32)
    if model.is_file():
        loaded.decoder = OriginalDecoder(loaded.config, torch.load(model))
    return models_clipseg.outputs(loaded, inputs)


class OriginalDecoder(nn.Module):
    """The decoder from PyTorch's own transformer layers, as timojl/clipseg builds it.

    Source: `CLIPDensePredT.forward` of that repository. It takes the tensors of its `.pth` files
    under their own names, so it checks the renaming without undoing it.
    """

    def __init__(self, config, state: dict[str, torch.Tensor]):
        super().__init__()
        dim, width = config.reduce_dim, config.vision_config.hidden_size
        depth, condition = len(config.extract_layers), config.projection_dim
        self.film_mul = nn.Linear(condition, dim)
        self.film_add = nn.Linear(condition, dim)
        self.reduces = nn.ModuleList(nn.Linear(width, dim) for _ in range(depth))
        hidden = state["blocks.0.linear1.weight"].shape[0]
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, nhead=4, dim_feedforward=hidden) for _ in range(depth)
        )
        if "trans_conv.weight" in state:
            self.trans_conv = nn.ConvTranspose2d(dim, 1, 16, stride=16)
        else:
            self.trans_conv = nn.Sequential(
                nn.Conv2d(dim, dim, 3, padding=1),
                nn.ReLU(),
                nn.ConvTranspose2d(dim, dim // 2, 4, stride=4),
                nn.ReLU(),
                nn.ConvTranspose2d(dim // 2, 1, 4, stride=4),
            )
        unused = {name for name in state if name.startswith("reduce.")}
        self.load_state_dict({name: t for name, t in state.items() if name not in unused})
        self.eval()

    def forward(self, hidden_states, conditional_embeddings, **kwargs):
        tokens = None
        layers = zip(reversed(hidden_states), self.reduces, self.blocks, strict=True)
        for index, (activation, reduce, block) in enumerate(layers):
            reduced = reduce(activation.transpose(0, 1))
            tokens = reduced if tokens is None else reduced + tokens
            if index == 0:
                scale, shift = (
                    film(conditional_embeddings) for film in (self.film_mul, self.film_add)
                )
                tokens = scale * tokens + shift
            tokens = block(tokens)
        maps = tokens[1:].permute(1, 2, 0)
        side = int(maps.shape[2] ** 0.5)
        logits = self.trans_conv(maps.reshape(*maps.shape[:2], side, side)).squeeze(1)
        return type("Decoded", (), {"logits": logits})()


def _txt2img(case, model, inputs, folder):
    options = case["options"]
    if model.is_file():
        config = options["config"] if "config" in options else Path(options["tokenizer"]).parent
        pipeline = _single_file(model, (folder / config).resolve())
    else:
        pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    scheduler = models_diffusion.scheduler_named(
        options["scheduler"], models_diffusion.SCHEDULER_CONFIG
    )
    if models_diffusion.plain_config(scheduler) != options["scheduler_config"]:
        raise ValueError(f"{case['name']}: the scheduler's configuration differs")
    start, outputs = models_diffusion.txt2img(pipeline, options, scheduler)
    if not torch.equal(start["latents"], inputs["latents"]):
        raise ValueError(f"{case['name']}: the start noise differs")
    return outputs


def _single_file(file: Path, config: Path) -> StableDiffusionPipeline:
    """Through diffusers' own conversion, which must name every tensor of the models."""
    if file.suffix == ".safetensors":
        state = load_file(file)
    else:
        models_diffusion.lightning_checkpoint({})  # registers the class that the pickle refers to
        state = torch.load(file, weights_only=False)["state_dict"]
    parts = {}
    for name, kind, convert in (
        ("unet", UNet2DConditionModel, convert_ldm_unet_checkpoint),
        ("vae", AutoencoderKL, convert_ldm_vae_checkpoint),
    ):
        part = kind.from_config(kind.load_config(config / name))
        part.load_state_dict(convert(dict(state), config=part.config))
        parts[name] = part.float().eval()
    text = CLIPTextModel.from_pretrained(config / "text_encoder", dtype=torch.float32)
    prefix = "cond_stage_model.transformer.text_model."
    tower = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    tower.pop("embeddings.position_ids")
    text.load_state_dict(tower)
    tokenizer = CLIPTokenizer.from_pretrained(config / "tokenizer")
    parts |= {"tokenizer": tokenizer, "text_encoder": text.float().eval()}
    return models_diffusion.assemble(parts, models_diffusion.SCHEDULER_CONFIG)


def _sentence(case, model, inputs, folder):
    return models_sbert.outputs(model, case["options"]["texts"])


def _blip_vqa(case, model, inputs, folder):
    return models_blip.outputs(model, inputs["pixel_values"], case["options"])


RUNNERS = {
    "clip-text": _clip_text,
    "clip-vision": _clip_vision,
    "clip": _clip,
    "unet": _unet,
    "vae-decode": _vae_decode,
    "vae-encode": _vae_encode,
    "clipseg": _clipseg,
    "txt2img": _txt2img,
    "sentence": _sentence,
    "blip-vqa": _blip_vqa,
}
