#!/usr/bin/env python3
"""Builds reference models with seeded random weights and writes their inputs and outputs.

`--size small` makes the fixtures under `fixtures/models`, `--size full` the models at their
published sizes. README.md describes the files; the versions are pinned in setup.sh.
"""

import argparse
from pathlib import Path

import torch

import models_clip
from models_folder import Cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["small", "full"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="write these cases alone")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    cases = Cases(arguments.out.resolve(), arguments.only)
    if arguments.size == "small":
        models_clip.small(cases)
    print(f"{len(cases.written)} cases in {cases.root}")


if __name__ == "__main__":
    main()
