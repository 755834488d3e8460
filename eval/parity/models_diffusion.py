"""Stable Diffusion 1.x cases: UNet, VAE, single files and the whole text-to-image pipeline."""

import json
import sys
import types
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import models_clip
from models_folder import F32_DIFFUSION, Cases, write_json, write_pickle, write_safetensors
from models_naming import (
    unet_to_compvis,
    vae_to_compvis,
    vae_to_old_attention,
    with_position_ids,
)
from models_tokenizer import write_tokenizer
from models_weights import generator, randn, randomise, uninitialised

DIFFUSERS = f"diffusers {diffusers.__version__}"

# The configurations below are those of the files published as Stable Diffusion 1.4; the tiny ones
# replace sizes in them and nothing else.
UNET_CONFIG = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [
        "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D",
    ],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": [
        "UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
    ],
}  # fmt: skip
VAE_CONFIG = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT_CONFIG = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
    "vocab_size": 49408,
}
SCHEDULER_CONFIG = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.8.0.dev0",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

# The names that `negkit --scheduler` knows, and how `diffusers` users get the same scheduler.
SCHEDULERS = {
    "pndm": (PNDMScheduler, {}),
    "ddim": (DDIMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler-a": (EulerAncestralDiscreteScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
    "dpm++2m-karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "unipc": (UniPCMultistepScheduler, {}),
}

# Predicted noise and pictures of order one: a sampler's trajectory then stays bounded, and few
# pixels leave [0, 1].
UNET_GAINS = {"conv_out.weight": 0.9}
VAE_GAINS = {"decoder.conv_out.weight": 1.0}


def build_unet(config: dict, seed: str) -> UNet2DConditionModel:
    with uninitialised():
        model = UNet2DConditionModel.from_config(dict(config))
    return randomise(model, seed, UNET_GAINS)


def build_vae(config: dict, seed: str) -> AutoencoderKL:
    with uninitialised():
        model = AutoencoderKL.from_config(dict(config))
    return randomise(model, seed, VAE_GAINS)


def build_text(config: dict, seed: str) -> CLIPTextModel:
    with uninitialised():
        model = CLIPTextModel(CLIPTextConfig.from_dict(dict(config)))
    return randomise(model, seed)


@torch.no_grad()
def unet_outputs(model: UNet2DConditionModel, inputs: dict) -> dict[str, torch.Tensor]:
    found = model(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"])
    return {"sample": found.sample}


@torch.no_grad()
def decode_outputs(model: AutoencoderKL, inputs: dict) -> dict[str, torch.Tensor]:
    """`latents` go into the decoder as they are: the pipeline's division by 0.18215 is done."""
    return {"image": model.decode(inputs["latents"]).sample}


@torch.no_grad()
def encode_outputs(model: AutoencoderKL, inputs: dict) -> dict[str, torch.Tensor]:
    posterior = model.encode(inputs["image"]).latent_dist
    return {
        "moments": posterior.parameters,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
    }


def unet_inputs(seed: str, timesteps: list[int], height: int, width: int, context: int, cross: int):
    batch = len(timesteps)
    return {
        "sample": randn(f"{seed}.sample", batch, 4, height, width),
        "timestep": torch.tensor(timesteps),
        "encoder_hidden_states": randn(f"{seed}.states", batch, context, cross),
    }


def scheduler_named(name: str, config: dict):
    kind, extra = SCHEDULERS[name]
    return kind.from_config(PNDMScheduler.from_config(dict(config)).config, **extra)


def plain_config(scheduler) -> dict:
    """The scheduler's whole configuration, defaults included, as plain JSON.

    `lambda_min_clipped` is left out where it is minus infinity, its default: JSON has no such number.
    """
    hidden = ("_use_default_values", "_diffusers_version")
    config = {
        key: value
        for key, value in scheduler.config.items()
        if key not in hidden and value != float("-inf")
    }
    return {"_class_name": type(scheduler).__name__} | json.loads(json.dumps(config, default=list))


@torch.no_grad()
def txt2img(pipeline: StableDiffusionPipeline, options: dict, scheduler):
    """Runs the pipeline. Each picture has its own seed, as in a list of generators."""
    pipeline.scheduler = scheduler
    pipeline.set_progress_bar_config(disable=True)
    scale = pipeline.vae_scale_factor
    shape = (1, 4, options["height"] // scale, options["width"] // scale)
    start = torch.cat(
        [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(s)) for s in options["seeds"]]
    )
    kept = {}

    def keep(pipeline, step, timestep, tensors):
        kept["latents"] = tensors["latents"].clone()
        return tensors

    generators = [torch.Generator("cpu").manual_seed(seed) for seed in options["seeds"]]
    pictures = pipeline(
        prompt=options["prompt"],
        negative_prompt=options["negative_prompt"],
        num_inference_steps=options["steps"],
        guidance_scale=options["guidance_scale"],
        height=options["height"],
        width=options["width"],
        generator=generators if len(generators) > 1 else generators[0],
        output_type="np",
        callback_on_step_end=keep,
    ).images
    outputs = {"latents": kept["latents"], "image": torch.from_numpy(np.ascontiguousarray(pictures))}
    return {"latents": start}, outputs


def describe(outputs: dict) -> str:
    image, latents = outputs["image"], outputs["latents"]
    clipped = ((image <= 0) | (image >= 1)).float().mean().item()
    return f"latents std {latents.std():.2f}, picture std {image.std():.3f}, clipped {clipped:.1%}"


def write_component(folder: Path, config: dict, state: dict, stem: str, dtype=None) -> None:
    write_json(folder / "config.json", config)
    write_safetensors(folder / f"{stem}.safetensors", state, dtype)


def write_pipeline(root: Path, text, unet, vae, configs: dict) -> None:
    """A folder as `diffusers` repositories are laid out, without a safety checker."""
    write_json(root / "model_index.json", MODEL_INDEX)
    write_json(root / "scheduler" / "scheduler_config.json", SCHEDULER_CONFIG)
    prefixed = {f"text_model.{name}": tensor for name, tensor in text.state_dict().items()}
    length = configs["text"]["max_position_embeddings"]
    prefixed = with_position_ids(prefixed, {"text_model.": length})
    write_component(root / "text_encoder", configs["text"], prefixed, "model")
    stem = "diffusion_pytorch_model"
    write_component(root / "unet", configs["unet"], unet.state_dict(), stem)
    vae_state = vae_to_old_attention(vae.state_dict())
    write_component(root / "vae", configs["vae"], vae_state, stem)
    write_tokenizer(root / "tokenizer", configs["text"]["vocab_size"])


def compvis_state(text, unet, vae) -> dict[str, torch.Tensor]:
    """The three models under the names of a single-file checkpoint, with what else is in those."""
    unet_config, vae_config = unet.config, vae.config
    state = {"betas": torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2}
    state["alphas_cumprod"] = torch.cumprod(1 - state["betas"], dim=0)
    state = {name: tensor.float() for name, tensor in state.items()}
    blocks = len(unet_config["block_out_channels"])
    state |= unet_to_compvis(unet.state_dict(), unet_config["layers_per_block"], blocks)
    state |= vae_to_compvis(vae.state_dict(), len(vae_config["block_out_channels"]))
    prefix = "cond_stage_model.transformer.text_model."
    clip = {f"{prefix}{name}": tensor for name, tensor in text.state_dict().items()}
    return state | with_position_ids(clip, {prefix: text.config.max_position_embeddings})


def lightning_checkpoint(state: dict) -> dict:
    """The dictionary around the tensors in the published `.ckpt` files.

    PyTorch Lightning wrote them: besides `state_dict` there are a class reference as a key and
    numpy scalars. A reader that accepts nothing but tensors cannot open the published file.
    """
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules[module.__name__] = module
    return {
        "epoch": 0,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        "callbacks": {
            callback: {
                "monitor": "val/loss_simple_ema",
                "best_model_score": torch.tensor(0.1),
                "best_model_path": "",
                "current_score": np.float64(0.125),
                "dirpath": "",
            }
        },
        "optimizer_states": [],
        "lr_schedulers": [],
    }


def small(cases: Cases) -> None:
    text_config = TEXT_CONFIG | {
        "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2,
        "num_hidden_layers": 2, "vocab_size": 560,
    }  # fmt: skip
    unet_config = UNET_CONFIG | {
        "block_out_channels": [4, 4, 8, 8], "attention_head_dim": 2, "norm_num_groups": 2,
        "cross_attention_dim": 16, "sample_size": 8,
    }  # fmt: skip
    vae_config = VAE_CONFIG | {
        "block_out_channels": [4, 4, 4, 8], "norm_num_groups": 2, "sample_size": 64,
        "layers_per_block": 1,
    }  # fmt: skip
    configs = {"text": text_config, "unet": unet_config, "vae": vae_config}
    text = build_text(text_config, "sd.text")
    unet = build_unet(unet_config, "sd.unet")
    vae = build_vae(vae_config, "sd.vae")
    folder = cases.weights / "sd"
    write_pipeline(folder, text, unet, vae, configs)

    _small_unet(cases, unet, folder / "unet")
    _small_vae(cases, vae, vae_config, folder / "vae")
    _small_txt2img(cases, text, unet, vae, folder)


def _small_unet(cases: Cases, unet, folder: Path) -> None:
    reference = f"{DIFFUSERS} UNet2DConditionModel"

    def write(name: str, model, path: Path, inputs: dict) -> None:
        found = unet_outputs(model, inputs)
        cases.write(name, "unet", reference, path, inputs, found, relative_l2=F32_DIFFUSION)

    write("unet-sd1", unet, folder, unet_inputs("unet-sd1", [981, 20], 8, 8, 7, 16))
    # Neither side divides by 2 three times: the upsamplers must be told the size to reach.
    write("unet-odd-size", unet, folder, unet_inputs("unet-odd-size", [501], 9, 7, 5, 16))

    config = UNET_CONFIG | {
        "_diffusers_version": "0.10.0.dev0",
        "attention_head_dim": [1, 2, 4, 4],
        "block_out_channels": [4, 4, 8, 8],
        "cross_attention_dim": 20,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "only_cross_attention": False,
        "dual_cross_attention": False,
        "num_class_embeds": None,
        "sample_size": 8,
        "use_linear_projection": True,
    }
    linear = build_unet(config, "unet-linear")
    path = cases.weights / "unet-linear"
    stem = "diffusion_pytorch_model.fp16"
    write_component(path, config, linear.state_dict(), stem, torch.float16)
    write("unet-linear", linear, path, unet_inputs("unet-linear", [1, 999], 8, 16, 4, 20))


def _small_vae(cases: Cases, vae, config: dict, old_names: Path) -> None:
    reference = f"{DIFFUSERS} AutoencoderKL"
    fp16 = cases.weights / "vae-fp16"
    newer = config | {"_diffusers_version": "0.20.0", "scaling_factor": 0.18215}
    newer |= {"force_upcast": True}
    stem = "diffusion_pytorch_model.fp16"
    write_component(fp16, newer, vae.state_dict(), stem, torch.float16)

    inputs = {"latents": randn("vae-decode.latents", 1, 4, 3, 5)}
    found = decode_outputs(vae, inputs)
    options = {"relative_l2": F32_DIFFUSION}
    cases.write("vae-decode", "vae-decode", reference, fp16, inputs, found, **options)
    # A tile is 64 / 8 = 8 latents and the step 6: two rows of three tiles, the last ones cut off.
    inputs = {"latents": randn("vae-decode-tiled.latents", 1, 4, 9, 14)}
    vae.enable_tiling()
    found_tiled = decode_outputs(vae, inputs)
    vae.disable_tiling()
    tiled = {"options": {"tiling": True}} | options
    cases.write("vae-decode-tiled", "vae-decode", reference, fp16, inputs, found_tiled, **tiled)
    encode = {"image": randn("vae-encode.image", 2, 3, 16, 24).clamp(-1, 1)}
    moments = encode_outputs(vae, encode)
    cases.write("vae-encode", "vae-encode", reference, fp16, encode, moments, **options)
    for kind, names in (("vae-decode", list(found)), ("vae-encode", list(moments))):
        name = f"{kind}-old-names"
        cases.write(name, kind, reference, old_names, io=kind, output_names=names, **options)


def _small_txt2img(cases: Cases, text, unet, vae, folder: Path) -> None:
    reference = f"{DIFFUSERS} StableDiffusionPipeline"
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    parts = {"tokenizer": tokenizer, "text_encoder": text, "unet": unet, "vae": vae}
    pipeline = assemble(parts, SCHEDULER_CONFIG)
    base = {
        "prompt": ["a photo of a dog without a hat"],
        "negative_prompt": None,
        "steps": 5,
        "guidance_scale": 7.5,
        "height": 16,
        "width": 24,
        "seeds": [0],
        "scheduler": "pndm",
    }
    two = ["a man, not wearing glasses", "no cats on the table"]
    variants = {
        "txt2img-pndm": {"height": 32, "width": 32},
        "txt2img-ddim": {"scheduler": "ddim", "negative_prompt": ["blurry"], "seeds": [7]},
        "txt2img-euler": {"scheduler": "euler", "seeds": [1]},
        "txt2img-euler-a": {"scheduler": "euler-a", "prompt": two, "seeds": [3, 4]},
        "txt2img-dpm++2m-karras": {"scheduler": "dpm++2m-karras", "steps": 6},
        "txt2img-unipc": {"scheduler": "unipc", "steps": 6, "seeds": [11]},
        "txt2img-batch": {"prompt": two, "negative_prompt": ["", "a cat"], "seeds": [5, 6]},
        "txt2img-no-guidance": {"guidance_scale": 1.0, "scheduler": "ddim", "seeds": [2]},
    }
    options = {}
    for name, change in variants.items():
        options[name] = base | change
        scheduler = scheduler_named(options[name]["scheduler"], SCHEDULER_CONFIG)
        inputs, outputs = txt2img(pipeline, options[name], scheduler)
        options[name]["scheduler_config"] = plain_config(scheduler)
        print(f"{name}: {describe(outputs)}")
        cases.write(
            name, "txt2img", reference, folder, inputs, outputs, options=options[name],
            relative_l2=F32_DIFFUSION,
        )  # fmt: skip

    state = compvis_state(text, unet, vae)
    single = cases.weights / "sd-single-file"
    write_safetensors(single / "sd.safetensors", state, torch.float16)
    write_pickle(single / "sd.ckpt", state, torch.float16, wrap=lightning_checkpoint)
    for suffix in ("safetensors", "ckpt"):
        cases.write(
            f"txt2img-single-{suffix}", "txt2img", reference, single / f"sd.{suffix}",
            io="txt2img-pndm", options=options["txt2img-pndm"] | {"config": folder},
            output_names=["latents", "image"], relative_l2=F32_DIFFUSION,
        )  # fmt: skip


def assemble(parts: dict, scheduler_config: dict) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        **parts,
        scheduler=PNDMScheduler.from_config(dict(scheduler_config)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def full(cases: Cases) -> None:
    """Stable Diffusion 1.4's three models at their published sizes."""
    components = ("unet-sd14", "vae-decode-sd14", "vae-encode-sd14", "clip-text-sd14")
    pipelines = ("txt2img-sd14", "txt2img-sd14-single")
    if not cases.wanted(*components, *pipelines):
        return
    configs = {"text": TEXT_CONFIG, "unet": UNET_CONFIG, "vae": VAE_CONFIG}
    text = build_text(TEXT_CONFIG, "sd14.text")
    unet = build_unet(UNET_CONFIG, "sd14.unet")
    vae = build_vae(VAE_CONFIG, "sd14.vae")
    folder = cases.weights / "sd14"
    write_pipeline(folder, text, unet, vae, configs)

    if cases.wanted("clip-text-sd14"):
        ids = models_clip.token_rows("clip-text-sd14.ids", [0, 12, 75], 77, 49408)
        found = models_clip.text_outputs(text, ids)
        reference = f"{models_clip.TRANSFORMERS} CLIPTextModel"
        cases.write(
            "clip-text-sd14", "clip-text", reference, folder / "text_encoder", {"input_ids": ids},
            found,
        )  # fmt: skip
    for name, kind, model, part, inputs, run in (
        (
            "unet-sd14", "unet", unet, "unet",
            unet_inputs("unet-sd14", [981, 21], 64, 64, 77, 768), unet_outputs,
        ),
        (
            "vae-decode-sd14", "vae-decode", vae, "vae",
            {"latents": randn("vae-decode-sd14", 1, 4, 64, 64) * 5}, decode_outputs,
        ),
        (
            "vae-encode-sd14", "vae-encode", vae, "vae",
            {"image": randn("vae-encode-sd14", 1, 3, 256, 256).clamp(-1, 1)}, encode_outputs,
        ),
    ):  # fmt: skip
        if cases.wanted(name):
            reference = f"{DIFFUSERS} {type(model).__name__}"
            found = run(model, inputs)
            cases.write(
                name, kind, reference, folder / part, inputs, found, relative_l2=F32_DIFFUSION
            )

    if not cases.wanted(*pipelines):
        return
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    parts = {"tokenizer": tokenizer, "text_encoder": text, "unet": unet, "vae": vae}
    options = {
        "prompt": ["a photo of a man without a hat"],
        "negative_prompt": None,
        "steps": 4,
        "guidance_scale": 7.5,
        "height": 512,
        "width": 512,
        "seeds": [0],
        "scheduler": "pndm",
    }
    scheduler = scheduler_named("pndm", SCHEDULER_CONFIG)
    inputs, outputs = txt2img(assemble(parts, SCHEDULER_CONFIG), options, scheduler)
    options["scheduler_config"] = plain_config(scheduler)
    print(f"txt2img-sd14: {describe(outputs)}")
    reference = f"{DIFFUSERS} StableDiffusionPipeline"
    shared = {
        "options": options,
        "relative_l2": 1e-3,
        "output_tolerances": {"image": {"mean_absolute": 2 / 255}},
    }
    cases.write("txt2img-sd14", "txt2img", reference, folder, inputs, outputs, **shared)
    if cases.wanted("txt2img-sd14-single"):
        # No `config` option: the published sizes must be known from the layout alone. The
        # tokenizer is not in such a file.
        shared["options"] = options | {"tokenizer": folder / "tokenizer"}
        file = cases.weights / "sd14-single-file" / "sd-v1-4.safetensors"
        write_safetensors(file, compvis_state(text, unet, vae), torch.float16)
        cases.write(
            "txt2img-sd14-single", "txt2img", reference, file, io="txt2img-sd14",
            output_names=list(outputs), **shared,
        )  # fmt: skip
