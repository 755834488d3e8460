#!/usr/bin/env python3
"""Runs the rows of `peers/rows.py` and writes what came out; `compare.sh` calls it.

An engine's run is a process of its own: it loads, warms up, and times `--repeat` evaluations. A round
is one run of every engine. What is compared is the fastest evaluation of all rounds: on a shared
machine the others measure the neighbours. Every run is a file in the work folder, so that a killed
comparison goes on.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
sys.path.insert(0, str(PEERS))

from rows import CHEAP, ROWS, Row  # noqa: E402

TUNED_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps what was freed: PyTorch's activations then cost no page faults."""
PROMPT = "a photo of a man without a hat"
BUSY = 0.5
"""Load average, beyond the comparison's own, from which the table warns."""
BF16_FLAGS = ("amx_bf16", "avx512_bf16")


def machine(threads: int) -> dict:
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in cpu.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    # A virtual machine may name its processor without saying which generation it is.
    generation = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return {
        "cpu": fields.get("model name", platform.processor()),
        "generation": ", ".join(generation),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "instructions": [flag for flag in known if flag in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
    }


class Comparison:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.work = arguments.work.resolve()
        self.data = self.work / "data"
        self.binaries = Path(os.environ.get("NEGKIT_BENCH_BIN", ROOT / "target/release")).resolve()
        self.negkit = self.binaries / "negkit"
        self.settings = {
            "negkit": hashlib.sha256(self.negkit.read_bytes()).hexdigest(),
            "repeat": arguments.repeat,
            "threads": arguments.threads,
            "steps": arguments.steps,
        }

    # --- what an engine runs -------------------------------------------------------------------

    def prepare(self, row: Row) -> None:
        """Weights, inputs and references that the row needs, where they are not there yet."""
        needs = [row.case] if row.kind == "model" else []
        if row.name.startswith(("txt2img", "start")) or "sdcpp" in row.engines:
            needs.append("sd14")
        if row.name.startswith("table5"):
            needs.append("clipseg")
            self.draw_phrases(row.options["pictures"], row.options["phrases"])
        if needs:
            command = [sys.executable, PEERS / "cases.py", self.data, *needs]
            subprocess.run([str(part) for part in command], check=True)

    def draw_phrases(self, pictures: int, phrases: int) -> None:
        """`table5/phrasecut`: drawn pictures in PhraseCut's format, with so many phrases in all."""
        target = self.data / "table5" / "phrasecut"
        if target.exists():
            return
        world = self.data / "world"
        # PhraseCut's test split gets every other held-out picture; some hold nothing to name.
        counts = ["--train", "1", "--tifa", "1", "--val", str(2 * pictures + 20), "--side", "352"]
        subprocess.run([self.negkit, "world", "generate", "--out", world, *counts], check=True)
        tasks = json.loads((world / "phrasecut/refer_test.json").read_text())
        of: dict[int, list[int]] = {}
        for index, task in enumerate(tasks):
            of.setdefault(task["image_id"], []).append(index)
        chosen = list(of.values())[:pictures]
        # One phrase of every picture after the other, until there are enough.
        turns = [(turn, index) for each in chosen for turn, index in enumerate(each)]
        kept = sorted(index for _, index in sorted(turns)[:phrases])
        if len(chosen) < pictures or len(kept) < phrases:
            raise SystemExit(f"only {len(chosen)} pictures and {len(kept)} phrases were drawn")
        partial = target.with_name("phrasecut.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in ("image_data_split.json", "images"):
            (partial / name).symlink_to(world / "phrasecut" / name)
        (partial / "refer_test.json").write_text(json.dumps([tasks[index] for index in kept]))
        partial.rename(target)

    def command(self, row: Row, engine: str, scratch: Path) -> list[str]:
        if row.kind == "model":
            return self.model_command(row, engine)
        return getattr(self, f"{row.name.partition('-')[0]}_command")(row, engine, scratch)

    def model_command(self, row: Row, engine: str) -> list[str]:
        case = self.data / "cases" / row.case
        repeat, threads = str(self.arguments.repeat), str(self.arguments.threads)
        run = ["--dtype", row.dtype, "--repeat", repeat]
        if engine == "negkit":
            model = json.loads((case / "case.json").read_text())["model"]
            weights = (case / model).resolve()
            shape = ["--batch", str(row.batch), "--size", str(row.size)]
            return [self.negkit, "bench", row.model, "--weights", weights, *run, *shape, "--json"]
        if engine == "candle":
            return [self.binaries / "examples/candle_peer", case, "--repeat", repeat]
        if engine == "sdcpp":
            work = "vae-decode" if row.model == "vae-decode" else "unet"
            return self.sdcpp(work, "--repeat", repeat, "--size", str(row.size))
        script = [sys.executable, PEERS / f"{engine}_engine.py", case, *run, "--threads", threads]
        return script if engine == "torch" else [*script, "--models", self.data / "openvino"]

    def sdcpp(self, work: str, *more: str) -> list[str]:
        weights = self.data / "weights/sd14-single-file/sd-v1-4.safetensors"
        threads = str(self.arguments.threads)
        script = [sys.executable, PEERS / "sdcpp_engine.py", work]
        return [*script, "--weights", weights, "--threads", threads, *more]

    def txt2img_command(self, row: Row, engine: str, scratch: Path) -> list[str]:
        model = self.data / "weights/sd14"
        steps, size = str(self.arguments.steps or row.options["steps"]), str(row.options["size"])
        variant = row.options.get("variant")
        variant = ["--variant", variant] if variant else []
        if engine == "negkit":
            run = ["--steps", steps, "--width", size, "--height", size, "--dtype", row.dtype]
            return [self.negkit, "txt2img", PROMPT, "--model", model, *run, *variant, "--out", scratch]
        picture = scratch / "picture.png"
        if engine == "sdcpp":
            return self.sdcpp("txt2img", "--steps", steps, "--size", size, "--out", picture)
        run = ["--steps", steps, "--size", size, "--dtype", row.dtype, "--out", picture]
        threads = ["--threads", str(self.arguments.threads)]
        # bf16 convolutions are faster channels-last; in f32 it costs more than it gives.
        layout = ["--channels-last"] if row.dtype == "bf16" else []
        script = [sys.executable, PEERS / "diffusers_txt2img.py", model, PROMPT]
        return [*script, *run, *threads, *layout, *variant]

    start_command = txt2img_command

    def mini_command(self, row: Row, engine: str, scratch: Path) -> list[str]:
        return [self.negkit, "txt2img", "a room with no chairs", "--out", scratch]

    def table5_command(self, row: Row, engine: str, scratch: Path) -> list[str]:
        model = self.data / "weights/clipseg-rd64"
        quick = self.arguments.quick
        pictures = 2 if quick else row.options["pictures"]
        counts = ["--pictures", str(pictures)]
        if engine == "negkit":
            flags = ["--scale", "paper", "--data", self.data / "table5", "--only", "phrasecut"]
            run = ["--model", model, "--text-encoder", "stock", "--dtype", row.dtype]
            return [self.negkit, "eval", "table5", *flags, *run, *counts, "--out", scratch / "run"]
        run = ["--dtype", row.dtype, "--threads", str(self.arguments.threads)]
        counts += ["--out", scratch / "scores.json"]
        data = self.data / "table5/phrasecut"
        return [sys.executable, PEERS / "clipseg_loop.py", model, data, *run, *counts]

    # --- running --------------------------------------------------------------------------------

    def environment(self, engine: str) -> dict:
        threads = str(self.arguments.threads)
        environment = dict(os.environ) | {"OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads}
        return environment | TUNED_MALLOC if engine in ("torch", "candle") else environment

    def run(self, row: Row, engine: str, round_: int) -> dict:
        file = self.work / "runs" / self.arguments.label / row.name / f"{engine}-{round_}.json"
        if file.exists():
            return json.loads(file.read_text())
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.work / "scratch" / f"{row.name}-{engine}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        command = [str(part) for part in self.command(row, engine, scratch)]
        if shutil.which(command[0]) is None:
            return {"load_before": 0, "error": f"{command[0]} is not there"}
        print(f"  round {round_ + 1}: {engine} …", end="", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        with open(scratch / "stderr", "w") as errors, open(scratch / "stdout", "w") as output:
            started = time.perf_counter()
            child = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=errors, env=self.environment(engine)
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            wall = time.perf_counter() - started
        result = {
            "wall_seconds": wall,
            "peak_memory_gib": round(usage.ru_maxrss / 2**20, 3),
            "load_before": round(load, 2),
            "command": [part.replace(str(ROOT) + "/", "") for part in command],
        }
        if child.returncode != 0:
            tail = (scratch / "stderr").read_text(errors="replace").strip().splitlines()[-3:]
            result["error"] = " / ".join(tail) or f"exit status {child.returncode}"
            print(f" failed: {result['error']}", file=sys.stderr, flush=True)
            # Not kept: it is tried again when the comparison is started again.
            return result
        if row.kind == "model":
            result |= parsed((scratch / "stdout").read_text())
        else:
            result["seconds"] = [wall]
            result |= self.outcome(row, engine, scratch)
        print(f" {min(result['seconds']):.3f} s", file=sys.stderr, flush=True)
        write(file, result)
        return result

    def forget_other_settings(self, row: Row) -> None:
        """Runs of another build or with other settings do not belong beside new ones."""
        folder = self.work / "runs" / self.arguments.label / row.name
        file = folder / "settings.json"
        if file.exists() and json.loads(file.read_text()) != self.settings:
            print("  earlier runs were of another build or other settings: all anew", file=sys.stderr)
            shutil.rmtree(folder)
        write(file, self.settings)

    def outcome(self, row: Row, engine: str, scratch: Path) -> dict:
        """What a process made, for the check that all made the same."""
        found = {"engine": {"torch": "diffusers, transformers", "negkit": "negkit",
                            "sdcpp": "stable-diffusion.cpp"}[engine]}  # fmt: skip
        pictures = sorted(scratch.glob("*.png"))
        if pictures:
            keep = self.work / "pictures" / self.arguments.label / row.name
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures[0], keep / f"{engine}.png")
        if row.name.startswith("table5"):
            if engine == "negkit":
                summary = json.loads((scratch / "run/summary.json").read_text())
                found["cumulative_iou"] = cumulative_iou(summary)
            else:
                found |= json.loads((scratch / "scores.json").read_text())
        return found

    def agreement(self, row: Row) -> dict:
        """How far negkit is from the reference on the row's case, by `negkit parity`."""
        if row.kind != "model":
            return {}
        command = [self.negkit, "parity", self.data / "cases" / row.case, "--json"]
        command += ["--device", "cpu", "--dtype", row.dtype]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        try:
            case = json.loads(done.stdout)["cases"][0]
        except (ValueError, LookupError):
            return {"error": done.stderr.strip()[-300:]}
        differences = {c["output"]: c["difference"]["relative_l2"] for c in case["comparisons"]}
        compared = {"unet": "sample", "vae-decode": "image", "clip-text": "last_hidden_state",
                    "clip-vision": "image_embeds", "clipseg": "logits"}[row.model]  # fmt: skip
        return {"relative_l2": differences[compared], "all": differences}

    def compare(self, row: Row) -> dict:
        print(f"{row.name}: {row.title}", file=sys.stderr, flush=True)
        self.prepare(row)
        self.forget_other_settings(row)
        chosen = self.arguments.engines
        engines = [e for e in row.engines if chosen is None or e in chosen]
        runs: dict[str, list[dict]] = {engine: [] for engine in engines}
        for round_ in range(self.arguments.rounds):
            # Who comes first changes: a cold cache or a warm processor then meets each of them.
            turn = engines[round_ % len(engines) :] + engines[: round_ % len(engines)]
            for engine in turn:
                if not (runs[engine] and "error" in runs[engine][-1]):
                    runs[engine].append(self.run(row, engine, round_))
        result = {
            "row": row.name,
            "title": row.title,
            "dtype": row.dtype,
            "kind": row.kind,
            "machine": machine(self.arguments.threads),
            "rounds": self.arguments.rounds,
            "repeat": self.arguments.repeat,
            "quick": self.arguments.quick,
            "highest_load_before": max(run["load_before"] for all_ in runs.values() for run in all_),
            "engines": {},
        }
        for engine, all_ in runs.items():
            good = [run for run in all_ if "error" not in run]
            if not good:
                result["engines"][engine] = {"error": all_[-1]["error"]}
                continue
            seconds = [s for run in good for s in run["seconds"]]
            errors = [run["relative_l2"] for run in good if run.get("relative_l2") is not None]
            result["engines"][engine] = {
                "engine": good[-1].get("engine", engine),
                "notes": good[-1].get("notes", good[-1].get("instructions", "")),
                "min_seconds": min(seconds),
                "median_seconds": statistics.median(seconds),
                "runs": len(seconds),
                "peak_memory_gib": max(run["peak_memory_gib"] for run in good),
                "relative_l2": max(errors) if errors else None,
                "seconds": seconds,
            } | {key: good[-1][key] for key in ("cumulative_iou",) if key in good[-1]}
        ours = result["engines"].get("negkit", {})
        if "error" not in ours and ours:
            found = self.agreement(row)
            ours["relative_l2"] = found.get("relative_l2", ours.get("relative_l2"))
            result["agreement"] = found
            result["ratios"] = {
                peer: ours["min_seconds"] / other["min_seconds"]
                for peer, other in result["engines"].items()
                if peer != "negkit" and "error" not in other
            }
        result["bars"] = bars(row, result)
        if row.name.startswith(("txt2img", "start")):
            result["picture_difference"] = self.picture_difference(row)
        return result

    def picture_difference(self, row: Row) -> float | None:
        """Mean absolute difference of our picture and diffusers', of 255."""
        import numpy
        from PIL import Image

        folder = self.work / "pictures" / self.arguments.label / row.name
        files = [folder / f"{engine}.png" for engine in ("negkit", "torch")]
        if not all(file.exists() for file in files):
            return None
        ours, theirs = (numpy.asarray(Image.open(file).convert("RGB"), dtype=float) for file in files)
        return abs(ours - theirs).mean() if ours.shape == theirs.shape else None


def cumulative_iou(summary: dict) -> float:
    """The cumulative foreground IoU at 0.3 in PhraseCut's protocol, at the pictures' own size."""
    protocols = summary["datasets"][0]["protocols"]
    phrasecut = next(found for found in protocols if found["protocol"] == "phrasecut")
    thresholds = phrasecut["encoders"][0]["scores"]["thresholds"]
    return min(thresholds, key=lambda at: abs(at["threshold"] - 0.3))["foreground_iou"]


def bars(row: Row, result: dict) -> list[dict]:
    found = []
    engines, ratios = result["engines"], result.get("ratios", {})
    ours = engines.get("negkit", {})
    for peer, factor in row.bars:
        ratio = ratios.get(peer)
        met = None if ratio is None else ratio <= factor
        found.append({"bar": f"at most {factor:g} x {peer}", "found": ratio, "met": met})
    if row.seconds_bar is not None:
        seconds = ours.get("min_seconds")
        met = None if seconds is None else seconds <= row.seconds_bar
        found.append({"bar": f"at most {row.seconds_bar:g} s", "found": seconds, "met": met})
    if row.error_bar is not None:
        error = ours.get("relative_l2")
        met = None if error is None else error <= row.error_bar
        found.append({"bar": f"error at most {row.error_bar:g}", "found": error, "met": met})
    return found


def parsed(output: str) -> dict:
    """The JSON that an engine printed: the last line, or all of it."""
    lines = output.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (ValueError, IndexError):
        return json.loads(output)


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.rename(path)


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def table(results: list[dict]) -> str:
    names = {"negkit": "negkit", "torch": "PyTorch", "openvino": "OpenVINO",
             "candle": "candle-transformers", "sdcpp": "stable-diffusion.cpp"}  # fmt: skip
    lines = ["# negkit beside its peers", ""]
    lines += [
        "Made by `eval/bench/compare.sh`: the same random weights and inputs, all engines in turns; "
        "seconds, fastest and median; ratio of negkit's fastest to the peer's (below 1: negkit is "
        "faster); relative L2 error against PyTorch in f32; highest memory of the whole process.",
        "",
    ]
    machines = {json.dumps(result["machine"], sort_keys=True): result["machine"] for result in results}
    for found in machines.values():
        # Results of before have none.
        generation = f" ({found['generation']})" if found.get("generation") else ""
        lines.append(
            f"Machine: {found['cpu']}{generation}, {found['cores']} cores "
            f"({found['threads']} threads), {found['memory_gib']:.0f} GiB, "
            f"{', '.join(found['instructions']) or 'no AVX2'}."
        )
    if not any(flag in m["instructions"] for m in machines.values() for flag in BF16_FLAGS):
        lines += ["", "**No bf16 instructions on this machine**: engines emulate bf16, or compute in "
                  "f32 whatever they are asked for (an error of f32's size tells). These rows say "
                  "nothing about machines that have them."]  # fmt: skip
    busy = [r for r in results if r["highest_load_before"] > r["machine"]["threads"] + BUSY]
    if busy:
        lines += ["", f"**The machine was busy** in {len(busy)} of {len(results)} rows (load average "
                  "before a run, beyond the comparison's own threads): ratios of the fastest runs "
                  "still mean something, seconds do not. These rows are marked with *."]  # fmt: skip
    if any(result["quick"] for result in results):
        lines += ["", "**Some rows are a quick look** (`--quick`), no measurement."]
    for result in results:
        mark = " *" if result in busy else ""
        mark += " (quick)" if result["quick"] else ""
        lines += ["", f"## {result['title']}{mark}", ""]
        lines += ["| engine | fastest | median | runs | negkit / it | error | memory, GiB | notes |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for engine, found in result["engines"].items():
            if "error" in found:
                lines.append(f"| {names[engine]} | not run: {found['error']} | | | | | | |")
                continue
            ratio = result.get("ratios", {}).get(engine)
            error = found["relative_l2"]
            lines.append(
                f"| {names[engine]} | {number(found['min_seconds'])} | "
                f"{number(found['median_seconds'])} | {found['runs']} | "
                f"{'' if ratio is None else f'{ratio:.2f}'} | "
                f"{'' if error is None else f'{error:.1e}'} | {found['peak_memory_gib']:.2f} | "
                f"{found['engine'] if found['engine'] != engine else ''} {found['notes']} |"
            )
        for bar in result["bars"]:
            verdict = {True: "met", False: "**missed**", None: "not measured"}[bar["met"]]
            value = "" if bar["found"] is None else f" ({bar['found']:.2g})"
            lines.append(f"\nBar: {bar['bar']}: {verdict}{value}.")
        if result.get("picture_difference") is not None:
            lines.append(
                f"\nOur picture and diffusers' differ by {result['picture_difference']:.3f} of 255 "
                "(mean absolute difference)."
            )
        scores = {e: f["cumulative_iou"] for e, f in result["engines"].items() if f.get("cumulative_iou")}
        if scores:
            told = ", ".join(f"{names[engine]} {score:.4f}" for engine, score in scores.items())
            lines.append(f"\nCumulative IoU at 0.3: {told}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows, or all of a prefix")
    parser.add_argument("--engines", nargs="+", help="these engines alone")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--repeat", type=int, help="evaluations a run: 5, or 2 with --quick")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, help="steps of whole pictures, in place of 20")
    parser.add_argument("--quick", action="store_true", help="few rounds; without --only, cheap rows")
    parser.add_argument("--fresh", action="store_true", help="forget the runs of an earlier comparison")
    parser.add_argument("--list", action="store_true", help="name the rows and do nothing")
    parser.add_argument("--work", type=Path, default=ROOT / "out/bench")
    parser.add_argument("--out", type=Path, default=ROOT / "eval/results/bench")
    arguments = parser.parse_args()
    if arguments.list:
        for row in ROWS:
            print(f"{row.name:24} {row.title} [{', '.join(row.engines)}]")
        return
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.repeat = arguments.repeat or (2 if arguments.quick else 5)
    arguments.label = "quick" if arguments.quick else "full"
    wanted = arguments.only or (list(CHEAP) if arguments.quick else [row.name for row in ROWS])
    rows = [row for row in ROWS if any(row.name == w or row.name.startswith(f"{w}-") for w in wanted)]
    unknown = [w for w in wanted if not any(r.name == w or r.name.startswith(f"{w}-") for r in ROWS)]
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}: see --list")
    if arguments.fresh:
        for row in rows:
            shutil.rmtree(arguments.work / "runs" / arguments.label / row.name, ignore_errors=True)
    comparison = Comparison(arguments)
    for row in rows:
        write(arguments.out / f"{row.name}.json", comparison.compare(row))
    files = [arguments.out / f"{row.name}.json" for row in ROWS]
    results = [json.loads(file.read_text()) for file in files if file.exists()]
    (arguments.out / "compare.md").write_text(table(results))
    chart = comparison.binaries / "examples/bench_chart"
    subprocess.run([chart, "compare", arguments.out, arguments.out / "compare.png"], check=True)
    print(arguments.out / "compare.md")


if __name__ == "__main__":
    main()
