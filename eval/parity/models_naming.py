"""Renames state dicts from the names of `transformers` and `diffusers` to the other published ones.

Each function goes the way opposite to the conversion scripts that users run, and is written
without them; `models.py --check` feeds the results to those scripts and to the libraries' own
loaders and compares.
"""

import re

import torch

State = dict[str, torch.Tensor]


def hf_clip_to_openai(state: State) -> State:
    """`CLIPModel` names to OpenAI's: fused `in_proj`, projections stored transposed."""
    towers = [("text_model.", "transformer.", ""), ("vision_model.", "visual.transformer.", "visual.")]
    bare = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
        "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
        "vision_model.post_layernorm.weight": "visual.ln_post.weight",
        "vision_model.post_layernorm.bias": "visual.ln_post.bias",
        "logit_scale": "logit_scale",
    }
    renamed = {new: state[old] for old, new in bare.items()}
    renamed["text_projection"] = state["text_projection.weight"].T
    renamed["visual.proj"] = state["visual_projection.weight"].T
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for old_prefix, new_prefix, _ in towers:
        layers = {
            int(match[1])
            for name in state
            if (match := re.match(re.escape(old_prefix) + r"encoder\.layers\.(\d+)\.", name))
        }
        for layer in sorted(layers):
            old = f"{old_prefix}encoder.layers.{layer}."
            new = f"{new_prefix}resblocks.{layer}."
            for kind in ("weight", "bias"):
                fused = [state[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                renamed[f"{new}attn.in_proj_{kind}"] = torch.cat(fused)
                for old_part, new_part in parts.items():
                    renamed[f"{new}{new_part}.{kind}"] = state[f"{old}{old_part}.{kind}"]
    return renamed


def with_position_ids(state: State, prefixes: dict[str, int]) -> State:
    """Adds the `position_ids` buffers that files of `transformers` before 4.31 hold."""
    ids = {
        f"{prefix}embeddings.position_ids": torch.arange(length).unsqueeze(0)
        for prefix, length in prefixes.items()
    }
    return ids | state


def vae_to_old_attention(state: State) -> State:
    """The attention names of `diffusers` before 0.14, as in Stable Diffusion 1.4's VAE."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.*\.attentions\.0\.)(to_q|to_k|to_v|to_out\.0)(\.\w+)", name)
        renamed[f"{match[1]}{names[match[2]]}{match[3]}" if match else name] = tensor
    return renamed


def unet_to_compvis(state: State, layers_per_block: int, blocks: int) -> State:
    """`UNet2DConditionModel` names to those of CompVis' `openaimodel.UNetModel`."""
    stem = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }

    def place(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        if module in stem:
            return f"{stem[module]}.{leaf}"
        head, *rest = name.split(".")
        if head == "mid_block":
            group, index, tail = rest[0], int(rest[1]), rest[2:]
            position = 2 * index if group == "resnets" else 1
            return f"middle_block.{position}." + tail_name(group, tail)
        block, group, index, tail = int(rest[0]), rest[1], int(rest[2]), rest[3:]
        if head == "down_blocks":
            first = 1 + block * (layers_per_block + 1)
            if group == "downsamplers":
                return f"input_blocks.{first + layers_per_block}.0.op.{leaf}"
            return f"input_blocks.{first + index}.{int(group == 'attentions')}." + tail_name(group, tail)
        first = block * (layers_per_block + 1)
        if group == "upsamplers":
            # The upsampler is the last module of the block's last entry: after the attention,
            # where the block has one.
            after_attention = any(key.startswith(f"up_blocks.{block}.attentions.") for key in state)
            return f"output_blocks.{first + layers_per_block}.{1 + after_attention}.conv.{leaf}"
        return f"output_blocks.{first + index}.{int(group == 'attentions')}." + tail_name(group, tail)

    def tail_name(group: str, tail: list[str]) -> str:
        if group == "attentions":
            return ".".join(tail)
        return ".".join([resnet[tail[0]], *tail[1:]])

    renamed = {f"model.diffusion_model.{place(name)}": tensor for name, tensor in state.items()}
    assert len(renamed) == len(state) and blocks > 0
    return renamed


def vae_to_compvis(state: State, blocks: int) -> State:
    """`AutoencoderKL` names to those of CompVis' `AutoencoderKL`; attention as 1x1 convolutions."""
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    renamed = {}
    for name, tensor in state.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", new)
        new = re.sub(
            r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{blocks - 1 - int(m[1])}.block.", new
        )
        new = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0\.",
            lambda m: f"up.{blocks - 1 - int(m[1])}.upsample.",
            new,
        )
        new = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", new)
        if match := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", new):
            new = f"{match[1]}.mid.attn_1.{attention[match[2]]}.{match[3]}"
            if tensor.dim() == 2:
                tensor = tensor[:, :, None, None]
        renamed[f"first_stage_model.{new}"] = tensor
    return renamed


def clipseg_to_original(state: State, with_reduce: torch.nn.Linear | None) -> State:
    """The decoder of `CLIPSegForImageSegmentation` in the names of timojl/clipseg's `.pth` files.

    They hold the decoder alone. `rd16-uni.pth` also holds an unused layer `reduce` (its size,
    1,118,607 bytes, shows it), `rd64-uni.pth` (4,306,645 bytes) does not.
    """
    decoder = {
        name.removeprefix("decoder."): tensor
        for name, tensor in state.items()
        if name.startswith("decoder.")
    }
    parts = {
        "layer_norm1": "norm1",
        "layer_norm2": "norm2",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
        "self_attn.out_proj": "self_attn.out_proj",
    }
    renamed = {}
    for name in ("film_mul", "film_add"):
        for kind in ("weight", "bias"):
            renamed[f"{name}.{kind}"] = decoder[f"{name}.{kind}"]
    if with_reduce is not None:
        renamed["reduce.weight"] = with_reduce.weight
        renamed["reduce.bias"] = with_reduce.bias
    for name, tensor in decoder.items():
        if name.startswith("transposed_convolution."):
            renamed[name.replace("transposed_convolution", "trans_conv")] = tensor
        elif name.startswith("reduces."):
            renamed[name] = tensor
    layers = 1 + max(int(name.split(".")[1]) for name in decoder if name.startswith("layers."))
    for layer in range(layers):
        for kind in ("weight", "bias"):
            fused = [decoder[f"layers.{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"blocks.{layer}.self_attn.in_proj_{kind}"] = torch.cat(fused)
            for old, new in parts.items():
                renamed[f"blocks.{layer}.{new}.{kind}"] = decoder[f"layers.{layer}.{old}.{kind}"]
    return renamed
