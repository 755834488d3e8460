"""Makes fixtures/schedulers: what the schedulers of diffusers do with a fixed fake model.

Made with diffusers 0.42.1, torch 2.13.0, numpy 2.4.6 and safetensors 0.8 on x86-64 with AVX2.
Run: python eval/parity/schedulers.py

configs/*.json are scheduler_config.json files as published with Stable Diffusion 1.4, 1.5 and 2.1.

cases.json, one entry a run:
- `name`; `config` (a file in configs/), `set` (fields put into it, as keyword arguments of
  from_config); `kind` (negkit's name), `steps`, `eta`; `seeds`, one generator per picture, or one
  for all when `shared`;
- `start`: the first step taken; 0 begins with noise, others with add_noise(randn(seed 99), noise);
- `timesteps`, `init_noise_sigma`: what the scheduler says;
- `stride`: of the flattened sample after each step, every stride-th value is in the tensor
  `<name>` [model calls, values] of trajectories.safetensors.

The model gives 0.9 x + 0.1 x x / (1 + x x) - 1e-4 t in float32 for the scaled sample x; samples are
[pictures, 4, 8, 8].

schedule.safetensors: `alphas_cumprod.<name>` [1000] of four configurations, and what
DDPMScheduler.add_noise and get_velocity give for randn(3, 4, 2, 2) of seeds 1 (clean) and 2 (noise)
at timesteps 0, 500 and 999.

timesteps.json: per class, spacing and numbers of steps, a digest of all the timesteps: over the step
counts d = 31 d + sum((i + 1) bits(t[i])), modulo 2^64, with the bits of t as a float64.
"""

import json
import pathlib
import warnings

import diffusers
import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "schedulers"

KINDS = {
    "pndm": (diffusers.PNDMScheduler, {}),
    "ddim": (diffusers.DDIMScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler-a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "dpm++2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpm++2m-karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}
SPACINGS = ["leading", "linspace", "trailing"]
STEPS = [1, 2, 3, 4, 7, 20, 50]


def scheduler(kind, config, fields):
    cls, own = KINDS[kind]
    base = json.loads((FOLDER / "configs" / config).read_text())
    # As a pipeline does: the class of the file first, then another one from its configuration.
    loaded = getattr(diffusers, base["_class_name"]).from_config(base)
    return cls.from_config(loaded.config, **own, **fields)


def model(sample, timestep):
    shift = torch.tensor(1e-4 * float(timestep), dtype=torch.float32)
    return 0.9 * sample + 0.1 * sample * sample / (1 + sample * sample) - shift


def randn(shape, generators):
    return diffusers.utils.torch_utils.randn_tensor(shape, generator=generators)


def run(case, tensors):
    s = scheduler(case["kind"], case["config"], case["set"])
    s.set_timesteps(case["steps"])
    case["timesteps"] = [int(t) if float(t).is_integer() else float(t) for t in s.timesteps]
    case["init_noise_sigma"] = float(s.init_noise_sigma)

    # Also at 0: where the first two timesteps are equal, a search for the first finds the second.
    if hasattr(s, "set_begin_index"):
        s.set_begin_index(case["start"])
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]]
    shape = (case.get("pictures", len(generators)), 4, 8, 8)
    if case["start"] == 0:
        sample = randn(shape, generators) * s.init_noise_sigma
    else:
        clean = randn(shape, torch.Generator("cpu").manual_seed(99))
        at = s.timesteps[case["start"] : case["start"] + 1].repeat(shape[0])
        sample = s.add_noise(clean, randn(shape, generators), at)

    extra = {}
    if case["kind"] == "ddim":
        extra = {"eta": case["eta"], "generator": generators}
    if case["kind"] == "euler-a":
        extra = {"generator": generators}
    kept = []
    for t in s.timesteps[case["start"] :]:
        output = model(s.scale_model_input(sample, t), t)
        sample = s.step(output, t, sample, **extra).prev_sample
        kept.append(sample.flatten()[:: case["stride"]].clone())
    assert torch.isfinite(torch.stack(kept)).all(), case["name"]
    tensors[case["name"]] = torch.stack(kept)


def case(name, kind, config="sd-1.4.json", steps=20, stride=16, **fields):
    options = {"eta": 0.0, "seeds": [7], "start": 0}
    options |= {key: fields.pop(key) for key in ("eta", "seeds", "start", "pictures") if key in fields}
    return {
        "name": name, "config": config, "set": fields, "kind": kind, "steps": steps, **options,
        "stride": stride,
    }


def cases():
    # Every other value of every step at 20 steps, from the published configuration alone.
    for kind in KINDS:
        yield case(f"{kind}", kind, stride=2)
    yield case("pndm.runge-kutta", "pndm", stride=2, skip_prk_steps=False)
    yield case("ddim.eta-1", "ddim", stride=2, eta=1.0)

    # Some values of every step for all spacings, numbers of steps and predictions.
    for config in ("sd-1.4.json", "sd-2.1.json"):
        for kind in KINDS:
            for spacing in SPACINGS:
                for steps in STEPS:
                    name = f"{config[:-5]}.{kind}.{spacing}.{steps}"
                    yield case(name, kind, config, steps, 51, timestep_spacing=spacing)
    for steps in (4, 7, 50):
        yield case(f"runge-kutta.{steps}", "pndm", "sd-2.1.json", steps, 51, skip_prk_steps=False)
    for spacing in ("linspace", "trailing"):
        yield case(f"runge-kutta.{spacing}", "pndm", skip_prk_steps=False, timestep_spacing=spacing)
    for kind in ("ddim", "euler-a"):
        for seed in (2**32 + 3, 5):
            yield case(f"{kind}.seed-{seed}", kind, seeds=[seed], **({"eta": 0.5} if kind == "ddim" else {}))

    # Betas.
    for kind in KINDS:
        yield case(f"{kind}.linear", kind, beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
        yield case(f"{kind}.cosine", kind, beta_schedule="squaredcos_cap_v2", steps=10)
        yield case(f"{kind}.trained-betas", kind, num_train_timesteps=40, steps=8,
                   trained_betas=[0.001 + 0.002 * i for i in range(40)])
    zero_snr = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    for kind in ("ddim", "euler", "euler-a", "dpm++2m", "unipc"):
        yield case(f"{kind}.zero-snr", kind, "sd-2.1.json", **zero_snr)
    yield case("pndm.zero-snr", "pndm", "sd-2.1.json", rescale_betas_zero_snr=True)

    # Predictions, clipping and the ends.
    for kind in ("ddim", "euler", "dpm++2m", "unipc"):
        yield case(f"{kind}.sample", kind, prediction_type="sample")
    yield case("pndm.alpha-to-one", "pndm", set_alpha_to_one=True)
    yield case("ddim.alpha-to-one", "ddim", set_alpha_to_one=True)
    yield case("ddim.clip", "ddim", clip_sample=True, clip_sample_range=0.8)
    yield case("ddim.offset-0", "ddim", steps_offset=0)
    for kind in ("euler", "dpm++2m", "dpm++2m-karras", "unipc"):
        yield case(f"{kind}.sigma-min", kind, final_sigmas_type="sigma_min")

    # Sigmas.
    yield case("euler.log-linear", "euler", interpolation_type="log_linear")
    yield case("euler.log-linear-karras", "euler", interpolation_type="log_linear", use_karras_sigmas=True)
    for kind in ("euler", "unipc"):
        for steps in (1, 5, 20):
            yield case(f"{kind}.karras.{steps}", kind, steps=steps, use_karras_sigmas=True)
    yield case("unipc.karras.sigma-min", "unipc", use_karras_sigmas=True, final_sigmas_type="sigma_min")
    for kind in ("euler", "unipc", "dpm++2m-karras"):
        fields = {"use_karras_sigmas": True} if kind != "dpm++2m-karras" else {}
        yield case(f"{kind}.karras-v", kind, "sd-2.1.json", **fields)
    yield case("euler.karras-bounds", "euler", use_karras_sigmas=True, sigma_min=0.05, sigma_max=10.0)
    for spacing in SPACINGS:
        yield case(f"dpm++2m.clipped.{spacing}", "dpm++2m", lambda_min_clipped=-2.0, timestep_spacing=spacing)

    # Solvers.
    for steps in (3, 10, 20):
        yield case(f"dpm++2m.order-3.{steps}", "dpm++2m", steps=steps, solver_order=3)
        yield case(f"unipc.order-3.{steps}", "unipc", steps=steps, solver_order=3)
    for kind in ("dpm++2m", "unipc"):
        yield case(f"{kind}.order-1", kind, solver_order=1)
    yield case("dpm++2m.heun", "dpm++2m", solver_type="heun")
    yield case("dpm++2m.heun.10", "dpm++2m", solver_type="heun", steps=10, final_sigmas_type="sigma_min")
    yield case("dpm++2m.bh2", "dpm++2m", solver_type="bh2")
    yield case("dpm++2m.deis", "dpm++2m", algorithm_type="deis", final_sigmas_type="sigma_min")
    yield case("dpm++2m.euler-at-final", "dpm++2m", euler_at_final=True, final_sigmas_type="sigma_min")
    yield case("dpm++2m.order-kept", "dpm++2m", steps=10, lower_order_final=False)
    yield case("unipc.bh1", "unipc", solver_type="bh1", final_sigmas_type="sigma_min")
    yield case("unipc.midpoint", "unipc", solver_type="midpoint")
    yield case("unipc.order-kept", "unipc", lower_order_final=False, final_sigmas_type="sigma_min")
    yield case("unipc.uncorrected", "unipc", disable_corrector=[0, 3, 7])

    # Several pictures, and starts in the middle.
    yield case("euler-a.batch", "euler-a", seeds=[1, 2, 3], steps=5)
    yield case("ddim.batch", "ddim", seeds=[1, 2], steps=5, eta=1.0)
    yield case("euler-a.shared", "euler-a", seeds=[1], pictures=2, steps=5)
    for kind in KINDS:
        yield case(f"{kind}.from-8", kind, start=8)
        yield case(f"{kind}.batch-from-3", kind, steps=6, start=3, seeds=[4, 5])


def digest(timesteps, so_far):
    bits = np.array([float(t) for t in timesteps], dtype=np.float64).view(np.uint64)
    weights = np.arange(1, len(bits) + 1, dtype=np.uint64)
    return (31 * so_far + int((bits * weights).sum(dtype=np.uint64))) % 2**64


def timestep_digests():
    for kind in KINDS:
        for spacing in SPACINGS:
            s = scheduler(kind, "sd-1.4.json", {"timestep_spacing": spacing})
            total, excluded = 0, []
            last = 100 if kind.endswith("karras") else 999
            for steps in range(1, last + 1):
                s.set_timesteps(steps)
                if s.timesteps.min() < 0:
                    excluded.append(steps)  # numpy.arange gave one element too many.
                else:
                    total = digest(s.timesteps, total)
            yield {"kind": kind, "spacing": spacing, "last": last, "excluded": excluded, "digest": f"{total:016x}"}


def schedules(tensors):
    configs = {
        "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        "scaled-linear": {},
        "cosine": {"beta_schedule": "squaredcos_cap_v2"},
        "zero-snr": {"rescale_betas_zero_snr": True},
    }
    for name, fields in configs.items():
        s = scheduler("ddim", "sd-1.4.json", fields)
        tensors[f"alphas_cumprod.{name}"] = s.alphas_cumprod.clone()
    base = json.loads((FOLDER / "configs" / "sd-1.4.json").read_text())
    ddpm = diffusers.DDPMScheduler.from_config(base)
    clean, noise = (torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    at = torch.tensor([0, 500, 999])
    tensors["add_noise"] = ddpm.add_noise(clean, noise, at)
    tensors["velocity"] = ddpm.get_velocity(clean, noise, at)


def main():
    warnings.filterwarnings("ignore")
    diffusers.logging.set_verbosity_error()
    tensors, entries = {}, []
    for entry in cases():
        run(entry, tensors)
        entries.append(entry)
    assert len({entry["name"] for entry in entries}) == len(entries)
    save_file(tensors, FOLDER / "trajectories.safetensors")
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    (FOLDER / "cases.json").write_text(f"[\n{lines}\n]\n")

    tensors = {}
    schedules(tensors)
    save_file(tensors, FOLDER / "schedule.safetensors")
    lines = ",\n".join(json.dumps(entry) for entry in timestep_digests())
    (FOLDER / "timesteps.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
