"""The models of a case in PyTorch, as functions from tensors to the one output that is compared."""

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import (
    CLIPSegForImageSegmentation,
    CLIPTextModel,
    CLIPVisionModelWithProjection,
)

from model_io import Work

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
diffusers_logging.set_verbosity_error()
diffusers_logging.disable_progress_bar()


class Only(torch.nn.Module):
    """A model whose forward takes the case's inputs in order and gives its compared output."""

    def __init__(self, model: torch.nn.Module, call):
        super().__init__()
        self.model = model
        self.call = call

    def forward(self, *inputs):
        return self.call(self.model, *inputs)


def load(work: Work, dtype: torch.dtype) -> tuple[Only, list[torch.Tensor]]:
    """The model and its inputs, floating-point ones in `dtype`."""
    folder = work.model
    if work.kind == "unet":
        model = UNet2DConditionModel.from_pretrained(folder, torch_dtype=dtype)
        names = ["sample", "timestep", "encoder_hidden_states"]
        call = lambda m, sample, time, states: m(sample, time, states, return_dict=False)[0]
    elif work.kind == "vae-decode":
        model = AutoencoderKL.from_pretrained(folder, torch_dtype=dtype)
        names = ["latents"]
        call = lambda m, latents: m.decode(latents, return_dict=False)[0]
    elif work.kind == "clip-text":
        model = CLIPTextModel.from_pretrained(folder, dtype=dtype)
        names = ["input_ids"]
        call = lambda m, ids: m(input_ids=ids).last_hidden_state
    elif work.kind == "clip-vision":
        model = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=dtype)
        names = ["pixel_values"]
        call = lambda m, pixels: m(pixel_values=pixels).image_embeds
    else:
        model = CLIPSegForImageSegmentation.from_pretrained(folder, dtype=dtype)
        names = ["pixel_values", "input_ids"]
        call = lambda m, pixels, ids: m(pixel_values=pixels, input_ids=ids).logits
    inputs = [work.inputs[name] for name in names]
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    return Only(model.eval().requires_grad_(False), call), inputs
