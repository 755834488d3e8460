#!/usr/bin/env python3
"""Runs `negkit bench` at growing sizes and draws what it took; `scaling.sh` calls it.

Every point is a process of its own, so that its highest memory is that of this size. The points go
round in turns, and the fastest evaluation of all rounds counts.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from compare import BUSY, ROOT, machine, write

SIDES = [256, 384, 512, 640, 768, 1024]
BATCHES = [1, 2, 4, 8, 16]
PHRASES = [1, 2, 4, 8, 16, 32, 64]

# Title, what is scaled, network, flags that stay, flag that grows, values, those of --quick.
PANELS = {
    "side": ("UNet, batch 2", "pixels a side", "unet", ["--batch", "2"], "--size", SIDES, [64, 128]),
    "vae": ("VAE decode", "pixels a side", "vae-decode", [], "--size", SIDES, [64, 128]),
    "batch": ("UNet, 256 px", "batch", "unet", ["--size", "256"], "--batch", BATCHES, [1, 2]),
    "phrases": ("CLIPSeg, 352 px", "phrases a picture", "clipseg", [], "--batch", PHRASES, [1, 2]),
    "threads": ("UNet, 512 px, batch 2", "threads", "unet", ["--batch", "2", "--size", "512"],
                "threads", [1, 2], [1, 2]),
}  # fmt: skip


def point(arguments, key: str, value: int, round_: int) -> dict:
    file = arguments.work / arguments.label / f"{key}-{value}-{round_}.json"
    if file.exists():
        return json.loads(file.read_text())
    _, _, network, fixed, flag, _, _ = PANELS[key]
    if arguments.quick and key == "threads":
        fixed = ["--batch", "2", "--size", "64"]
    threads = value if flag == "threads" else arguments.threads
    grows = [] if flag == "threads" else [flag, str(value)]
    negkit = Path(os.environ["NEGKIT_BENCH_BIN"]) / "negkit"
    command = [str(negkit), "bench", network, *fixed, *grows, "--dtype", arguments.dtype]
    command += ["--repeat", str(arguments.repeat), "--json"]
    environment = dict(os.environ) | {"RAYON_NUM_THREADS": str(threads)}
    print(f"round {round_ + 1}: {key} {value} …", end="", file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    log = arguments.work / "stderr"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as errors:
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        # At the largest sizes memory may be short: the curve ends there.
        found = {"error": log.read_text().strip()[-200:] or f"exit status {child.returncode}"}
        print(f" failed: {found['error']}", file=sys.stderr, flush=True)
        return found
    found = {
        "seconds": min(json.loads(output)["seconds"]),
        "peak_memory_gib": usage.ru_maxrss / 2**20,
        "load_before": load,
    }
    print(f" {found['seconds']:.3f} s, {found['peak_memory_gib']:.2f} GiB", file=sys.stderr, flush=True)
    write(file, found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small points a panel, once")
    parser.add_argument("--only", nargs="+", choices=list(PANELS))
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--repeat", type=int, help="evaluations a run: 3, or 1 with --quick")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--fresh", action="store_true", help="forget earlier points")
    parser.add_argument("--work", type=Path, default=ROOT / "out/bench/scaling")
    parser.add_argument("--out", type=Path, default=ROOT / "eval/results/bench")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.repeat = arguments.repeat or (1 if arguments.quick else 3)
    negkit = Path(os.environ["NEGKIT_BENCH_BIN"]) / "negkit"
    # Another build's points do not belong on the same curve.
    build = f"{negkit.stat().st_mtime_ns:x}"
    arguments.label = f"{build}-{'quick' if arguments.quick else 'full'}-{arguments.dtype}"
    if arguments.fresh:
        shutil.rmtree(arguments.work / arguments.label, ignore_errors=True)
    keys = arguments.only or list(PANELS)
    found: dict[str, dict[int, list[dict]]] = {key: {} for key in keys}
    for round_ in range(arguments.rounds):
        for key in keys:
            *_, values, quick = PANELS[key]
            for value in quick if arguments.quick else values:
                before = found[key].setdefault(value, [])
                if not (before and "error" in before[-1]):
                    before.append(point(arguments, key, value, round_))
    panels = []
    for key in keys:
        title, x_label, *_ = PANELS[key]
        points = []
        for value, runs in found[key].items():
            good = [run for run in runs if "error" not in run]
            if good:
                points.append(
                    {
                        "x": value,
                        "seconds": min(run["seconds"] for run in good),
                        "peak_memory_gib": max(run["peak_memory_gib"] for run in good),
                        "load_before": max(run["load_before"] for run in good),
                    }
                )
        quick = " (quick look)" if arguments.quick else ""
        title = f"{title}, {arguments.dtype}{quick}"
        panels.append({"title": title, "x_label": x_label, "points": points})
    loads = [point["load_before"] for panel in panels for point in panel["points"]]
    result = {
        "machine": machine(arguments.threads),
        "dtype": arguments.dtype,
        "quick": arguments.quick,
        "busy": bool(loads) and max(loads) > arguments.threads + BUSY,
        "time": time.strftime("%Y-%m-%d"),
        "panels": panels,
    }
    write(arguments.out / "scaling.json", result)
    chart = negkit.with_name("examples") / "bench_chart"
    picture = arguments.out / "scaling.png"
    subprocess.run([chart, "scaling", arguments.out / "scaling.json", picture], check=True)
    if result["busy"]:
        print("the machine was busy: seconds say little", file=sys.stderr)
    print(picture)


if __name__ == "__main__":
    main()
