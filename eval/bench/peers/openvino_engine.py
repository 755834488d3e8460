#!/usr/bin/env python3
"""One case in OpenVINO: openvino_engine.py CASE --dtype f32 --repeat 3 --threads 2 --models FOLDER

The PyTorch model is converted once, for the case's very shapes, and kept in FOLDER.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import openvino as ov
from openvino import properties

from model_io import Work, report, timed


def convert(case: Path, target: Path) -> None:
    import torch

    import torch_models

    work = Work(case)
    model, inputs = torch_models.load(work, torch.float32)
    with torch.inference_mode():
        shapes = [ov.PartialShape(list(x.shape)) for x in inputs]
        converted = ov.convert_model(model, example_input=tuple(inputs), input=shapes)
    partial = target.with_name(f"{target.stem}-partial.xml")
    ov.save_model(converted, partial, compress_to_fp16=False)
    partial.with_suffix(".bin").rename(target.with_suffix(".bin"))
    partial.rename(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=Path)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--convert", action="store_true", help="convert and do nothing else")
    arguments = parser.parse_args()
    arguments.models.mkdir(parents=True, exist_ok=True)
    target = arguments.models / f"{arguments.case.name}.xml"
    if arguments.convert:
        convert(arguments.case, target)
        return
    if not target.exists():
        # In a process of its own: PyTorch's memory is not to count as OpenVINO's.
        subprocess.run([sys.executable, *sys.argv, "--convert"], check=True)
    work = Work(arguments.case)
    started = time.perf_counter()
    core = ov.Core()
    compiled = core.compile_model(
        target,
        "CPU",
        {
            properties.hint.inference_precision(): arguments.dtype,
            properties.hint.performance_mode(): properties.hint.PerformanceMode.LATENCY,
            properties.inference_num_threads(): arguments.threads,
            properties.num_streams(): 1,
        },
    )
    loading = time.perf_counter() - started
    names = {
        "unet": ["sample", "timestep", "encoder_hidden_states"],
        "vae-decode": ["latents"],
        "clip-text": ["input_ids"],
        "clip-vision": ["pixel_values"],
        "clipseg": ["pixel_values", "input_ids"],
    }[work.kind]
    request = compiled.create_infer_request()
    for index, name in enumerate(names):
        request.set_input_tensor(index, ov.Tensor(work.inputs[name].numpy().copy()))
    request.infer()
    found = request.get_output_tensor(0).data.copy()
    report(
        engine=f"OpenVINO {ov.__version__.partition('-')[0]}",
        seconds=timed(request.infer, arguments.repeat),
        loading=loading,
        relative_l2=work.relative_l2(found),
        notes="",
    )


if __name__ == "__main__":
    main()
