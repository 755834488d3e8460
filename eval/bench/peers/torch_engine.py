#!/usr/bin/env python3
"""One case in PyTorch: torch_engine.py CASE --dtype f32 --repeat 3 --threads 2

Models with convolutions are tried in both memory layouts and timed in the faster one.
"""

import argparse
import time
from pathlib import Path

import torch

import torch_models
from model_io import Work, report, timed


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=Path)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    work = Work(arguments.case)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    model, inputs = torch_models.load(work, dtype)
    loading = time.perf_counter() - started
    layout = "contiguous"
    found = model(*inputs)
    if work.kind in ("unet", "vae-decode"):
        contiguous = timed(lambda: model(*inputs), 1)[0]
        model.to(memory_format=torch.channels_last)
        as_last = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs]
        model(*as_last)
        if timed(lambda: model(*as_last), 1)[0] < contiguous:
            inputs, layout = as_last, "channels_last"
            found = model(*inputs)
        else:
            model.to(memory_format=torch.contiguous_format)
            model(*inputs)
    report(
        engine=f"torch {torch.__version__.partition('+')[0]}",
        seconds=timed(lambda: model(*inputs), arguments.repeat),
        loading=loading,
        relative_l2=work.relative_l2(found.float()),
        notes=layout,
    )


if __name__ == "__main__":
    main()
