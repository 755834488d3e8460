#!/usr/bin/env python3
"""stable-diffusion.cpp, through cyllama: sdcpp_engine.py WORK --weights FILE --repeat 3 --threads 2

WORK is `unet` (one step: both halves of guidance, one after the other), `vae-decode` or `txt2img`.
It draws its own noise and takes no latents, so its pictures cannot be compared with the others';
its own clock is read: the step times of its progress callback and the times that it logs.
"""

import argparse
import re
import time
from importlib.metadata import version

from cyllama.sd import stable_diffusion as sd

from model_io import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["unet", "vae-decode", "txt2img"])
    parser.add_argument("--weights", required=True, help="a single file")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", help="PNG file of a whole picture")
    arguments = parser.parse_args()
    steps, decoding = [], []
    last = [0.0]

    def on_step(step: int, total: int, seconds: float) -> None:
        # The same callback tells of the weights that were loaded.
        if total == asked:
            steps.append(time.perf_counter() - last[0] if step > 1 else seconds)
        last[0] = time.perf_counter()

    def on_log(level, message: str) -> None:
        found = re.search(r"decode_first_stage completed, taking ([\d.]+)s", message)
        if found:
            decoding.append(float(found[1]))

    sd.set_progress_callback(on_step)
    sd.set_log_callback(on_log)
    asked = {"unet": arguments.repeat + 1, "vae-decode": 1, "txt2img": arguments.steps}[arguments.work]
    started = time.perf_counter()
    params = sd.SDContextParams(model_path=arguments.weights, n_threads=arguments.threads)
    with sd.SDContext(params) as context:
        loading = time.perf_counter() - started
        pictures = context.generate(
            "a photo of a man without a hat",
            width=arguments.size, height=arguments.size, sample_steps=asked, seed=0, cfg_scale=7.5,
        )  # fmt: skip
        if arguments.out:
            pictures[0].save(arguments.out)
    seconds = {"unet": steps[-arguments.repeat:], "vae-decode": decoding, "txt2img": [time.perf_counter() - started]}
    report(
        engine=f"stable-diffusion.cpp (cyllama {version('cyllama')})",
        seconds=seconds[arguments.work],
        loading=loading,
        relative_l2=None,
        notes="own noise",
    )


if __name__ == "__main__":
    main()
