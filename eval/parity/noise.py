"""Makes fixtures/noise/noise.safetensors: what torch.randn draws from seeded CPU generators.

Made with torch 2.13.0 and safetensors 0.8 on x86-64 with AVX2 (other instruction sets give slightly
different numbers). Run: python eval/parity/noise.py

Tensors, for the seeds in `seeds` (u64, stored as the bits of an i64):
- `<shape>` [seeds, ...]: the first draw of a fresh generator, in full, for small shapes;
- `4x64x64.strided`, `4x64x64.fnv1a`: every 97th value of the flattened draw and FNV-1a (64 bits) over
  the bytes of all of it;
- `consecutive` [seeds, n]: the draws of CONSECUTIVE from one generator, end to end (4x64x64 left out);
- `state` [2, 5056]: get_state() after those draws, for the first two seeds;
- `after_state` [seeds, 9]: the 9 values that follow them.
"""

import pathlib

import torch
from safetensors.torch import save_file

SEEDS = [0, 1, 42, 1234, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63 + 11, 2**64 - 1]
SMALL_SHAPES = [(3,), (15,), (17,), (5, 7), (1, 4, 8, 8)]
LATENTS = (4, 64, 64)
CONSECUTIVE = [(3,), (5, 7), (2, 1), LATENTS, (), (16,), (0, 4), (15,), (31,), (1,), (1,)]
STRIDE = 97


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def fnv1a(values):
    digest = 0xCBF29CE484222325
    for byte in values.contiguous().numpy().tobytes():
        digest = ((digest ^ byte) * 0x100000001B3) % 2**64
    return digest


def as_i64(value):
    return value - 2**64 if value >= 2**63 else value


def main():
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    tensors = {"seeds": torch.tensor([as_i64(seed) for seed in SEEDS])}
    for shape in SMALL_SHAPES:
        name = "x".join(map(str, shape))
        tensors[name] = torch.stack([torch.randn(shape, generator=generator(s)) for s in SEEDS])

    latents = [torch.randn(LATENTS, generator=generator(s)) for s in SEEDS]
    tensors["4x64x64.strided"] = torch.stack([x.flatten()[::STRIDE] for x in latents])
    tensors["4x64x64.fnv1a"] = torch.tensor([as_i64(fnv1a(x)) for x in latents])

    consecutive, states, after = [], [], []
    for seed in SEEDS:
        g = generator(seed)
        draws = [torch.randn(shape, generator=g) for shape in CONSECUTIVE]
        consecutive.append(torch.cat([x.flatten() for x in draws if x.shape != LATENTS]))
        states.append(g.get_state())
        after.append(torch.randn(9, generator=g))
    tensors["consecutive"] = torch.stack(consecutive)
    tensors["state"] = torch.stack(states[:2])
    tensors["after_state"] = torch.stack(after)

    folder = pathlib.Path(__file__).parent / "fixtures" / "noise"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "noise.safetensors")


if __name__ == "__main__":
    main()
