"""The folder layout of the model fixtures: `case.json`, `io.safetensors` and model files."""

import json
import os
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

F32_TOWER = 1e-5
"""Relative L2 error allowed for text and vision towers and CLIPSeg."""
F32_DIFFUSION = 1e-4
"""Relative L2 error allowed for the UNet, the VAE and whole pipelines."""


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor], dtype=None) -> None:
    """Writes a safetensors file with the metadata that `transformers` and `diffusers` write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    converted = {name: _stored(tensor, dtype) for name, tensor in tensors.items()}
    save_file(converted, path, metadata={"format": "pt"})


def write_pickle(path: Path, tensors: dict[str, torch.Tensor], dtype=None, wrap=None) -> None:
    """Writes `torch.save` of an ordered state dict, or of `wrap(state_dict)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = OrderedDict((name, _stored(tensor, dtype)) for name, tensor in tensors.items())
    torch.save(wrap(state) if wrap else state, path)


def write_sharded(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    """Writes `model-0000i-of-0000n.safetensors` and the index that names each tensor's file."""
    names = list(tensors)
    weight_map, total = {}, 0
    for index in range(shards):
        file = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[index::shards]}
        write_safetensors(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
        total += sum(tensor.numel() * tensor.element_size() for tensor in part.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)


def _stored(tensor: torch.Tensor, dtype) -> torch.Tensor:
    tensor = tensor.detach()
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    tensor = tensor.contiguous()
    # `torch.save` writes the whole storage behind a view.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


class Cases:
    """Writes cases below `root`; with `only`, the others are skipped before they are computed."""

    def __init__(self, root: Path, only: list[str] | None = None):
        self.root = root
        self.weights = root / "weights"
        self.only = only
        self.written: list[str] = []

    def wanted(self, *names: str) -> bool:
        return self.only is None or any(name in self.only for name in names)

    def write(
        self,
        name: str,
        kind: str,
        reference: str,
        model: Path,
        inputs: dict[str, torch.Tensor] | None = None,
        outputs: dict[str, torch.Tensor] | None = None,
        *,
        io: str | None = None,
        options: dict | None = None,
        relative_l2: float = F32_TOWER,
        output_tolerances: dict[str, dict] | None = None,
        output_names: list[str] | None = None,
    ) -> None:
        """Writes one case. `io` names another case whose tensors this one must also reproduce."""
        if not self.wanted(name):
            return
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        names = list(outputs) if outputs is not None else output_names or []
        case = {
            "name": name,
            "kind": kind,
            "reference": reference,
            "model": os.path.relpath(model, folder),
            "options": {
                key: os.path.relpath(value, folder) if isinstance(value, Path) else value
                for key, value in (options or {}).items()
            },
            "tolerance": {"relative_l2": relative_l2},
            "outputs": {output: (output_tolerances or {}).get(output, {}) for output in names},
        }
        if io is not None:
            case["io"] = f"../{io}/io.safetensors"
        else:
            tensors = {f"in.{key}": value for key, value in inputs.items()}
            tensors |= {f"out.{key}": value for key, value in outputs.items()}
            for key, value in tensors.items():
                if not torch.isfinite(value.float()).all():
                    raise ValueError(f"{name}: {key} is not finite")
            save_file(
                {key: value.detach().contiguous().clone() for key, value in tensors.items()},
                folder / "io.safetensors",
            )
        write_json(folder / "case.json", case)
        self.written.append(name)


def relative_l2(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.double(), expected.double()
    return ((found - expected).norm() / expected.norm()).item()
