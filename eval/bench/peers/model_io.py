"""What the engines of one model have in common: the case, the clock, the report."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


class Work:
    """A case: the model's folder, its inputs, and which of its outputs the engines compute."""

    def __init__(self, folder: Path):
        self.case = json.loads((folder / "case.json").read_text())
        self.kind = self.case["kind"]
        self.model = (folder / self.case["model"]).resolve()
        tensors = load_file(folder / "io.safetensors")
        self.inputs = {key[3:]: value for key, value in tensors.items() if key.startswith("in.")}
        self.output = {
            "unet": "sample",
            "vae-decode": "image",
            "clip-text": "last_hidden_state",
            "clip-vision": "image_embeds",
            "clipseg": "logits",
        }[self.kind]
        self.reference = tensors[f"out.{self.output}"]

    def relative_l2(self, found) -> float:
        found = torch.as_tensor(np.asarray(found)) if not isinstance(found, torch.Tensor) else found
        found = found.double().reshape(self.reference.shape)
        reference = self.reference.double()
        return ((found - reference).norm() / reference.norm()).item()


def timed(run: Callable[[], object], repeat: int) -> list[float]:
    """Seconds of each of `repeat` runs. The caller has warmed up."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def report(**fields) -> None:
    """The result is the last line that an engine prints."""
    sys.stdout.flush()
    print(json.dumps(fields), flush=True)


