"""Seeded random weights for the reference models.

PyTorch's default initialisation leaves many tensors at zero or one (norm weights, biases), and a
wrong name mapping between two such tensors would go unnoticed. So every parameter is drawn anew:
norm weights around one, biases and embeddings around zero, matrices with variance 1 / fan-in so
that activations stay of order one at any width.

Every value is rounded to a number that float32, float16 and bfloat16 all hold exactly. A file
written in half precision therefore holds *the same* weights as the float32 one, and the two must
give the same outputs.
"""

import zlib
from contextlib import contextmanager

import torch
from torch import nn


def generator(name: str) -> torch.Generator:
    """A CPU generator seeded by a name, so that cases do not depend on each other's order."""
    return torch.Generator("cpu").manual_seed(zlib.crc32(name.encode()))


def randn(name: str, *shape: int) -> torch.Tensor:
    """Standard normal values of `shape`, seeded by `name`."""
    return torch.randn(shape, generator=generator(name))


@contextmanager
def uninitialised():
    """Builds modules without running their own initialisers, which only cost time here."""
    originals = {
        name: getattr(nn.init, name)
        for name in ("kaiming_uniform_", "uniform_", "normal_", "xavier_uniform_", "trunc_normal_")
    }
    for name in originals:
        setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(nn.init, name, original)


def _round_to_half_precisions(tensor: torch.Tensor) -> None:
    tensor.copy_(tensor.to(torch.bfloat16).to(torch.float16).to(torch.float32))


def _fan_in(tensor: torch.Tensor, owner: nn.Module) -> int:
    if isinstance(owner, nn.ConvTranspose2d):
        # Stride equals kernel in every transposed convolution here: each output pixel sees one
        # input pixel through all input channels.
        return tensor.shape[0]
    return max(1, tensor[0].numel())


@torch.no_grad()
def randomise(model: nn.Module, seed: str, gains: dict[str, float] | None = None) -> nn.Module:
    """Redraws every parameter of `model`.

    `gains` maps the beginning or the end of a parameter's name to a factor on its standard
    deviation; the first match wins.
    """
    draw = generator(seed)
    owners = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        owner = owners[name.rpartition(".")[0]]
        leaf = name.rpartition(".")[2]
        parameter.data = parameter.data.float()
        if isinstance(owner, (nn.LayerNorm, nn.GroupNorm)) and leaf == "weight":
            mean, std = 1.0, 0.1
        elif leaf == "logit_scale":
            mean, std = 3.0, 0.1
        elif isinstance(owner, nn.Embedding) or leaf in ("positional_embedding", "class_embedding"):
            mean, std = 0.0, 0.3
        elif leaf in ("proj", "text_projection"):
            # OpenAI's projections are bare matrices, used as `x @ p`: the fan-in comes first.
            mean, std = 0.0, parameter.shape[0] ** -0.5
        elif parameter.dim() < 2:
            mean, std = 0.0, 0.05
        else:
            mean, std = 0.0, _fan_in(parameter, owner) ** -0.5
        for key, gain in (gains or {}).items():
            if name.startswith(key) or name.endswith(key):
                std *= gain
                break
        parameter.data.normal_(mean, std, generator=draw)
        _round_to_half_precisions(parameter.data)
        parameter.requires_grad_(False)
    return model.eval()
