#!/usr/bin/env python3
"""A picture with diffusers, as a user's script would make it, from process start to PNG."""

import argparse

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("prompt")
    parser.add_argument("--out", required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--variant")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--channels-last", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable_progress_bar()
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    pipeline = StableDiffusionPipeline.from_pretrained(
        arguments.model, torch_dtype=dtype, variant=arguments.variant
    )
    if arguments.channels_last:
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    # Every picture's noise is drawn in f32, as negkit draws it.
    shape = (1, 4, arguments.size // 8, arguments.size // 8)
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0))
    pictures = pipeline(
        arguments.prompt,
        num_inference_steps=arguments.steps,
        height=arguments.size,
        width=arguments.size,
        latents=noise.to(dtype),
    ).images
    pictures[0].save(arguments.out)


if __name__ == "__main__":
    main()
