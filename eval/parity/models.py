#!/usr/bin/env python3
"""Builds reference models with seeded random weights and writes their inputs and outputs.

`--size small` makes the fixtures under `fixtures/models`, `--size full` the models at their
published sizes. README.md describes the files; the versions are pinned in setup.sh.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

import models_check
import models_blip
import models_clip
import models_clipseg
import models_diffusion
import models_sbert
from models_folder import Cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["small", "full"])
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases alone")
    parser.add_argument("--check", type=Path, help="load the files of a folder again and compare")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.check:
        sys.exit(0 if models_check.check(arguments.check.resolve(), arguments.only) else 1)
    if not (arguments.size and arguments.out):
        parser.error("--size and --out are needed, or --check")
    cases = Cases(arguments.out.resolve(), arguments.only)
    for part in (models_clip, models_clipseg, models_diffusion, models_sbert, models_blip):
        started = time.monotonic()
        part.small(cases) if arguments.size == "small" else part.full(cases)
        print(f"{part.__name__}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"{len(cases.written)} cases in {cases.root}")


if __name__ == "__main__":
    main()
