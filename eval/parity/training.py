"""Makes fixtures/training: what PyTorch's AdamW and cross-entropy do with fixed numbers.

Made with torch 2.13.0 and safetensors 0.8 on x86-64.
Run: python eval/parity/training.py

adamw.safetensors: 20 steps of torch.optim.AdamW over three parameters, `weight` [4, 3] with weight
decay, `bias` [3] and `scale` [] without, betas (0.9, 0.98), eps 1e-6, weight decay 0.1, learning
rate 0.01 min(1, step / 5), clip_grad_norm_ at 1.5. `start.<name>`: first values; `gradient.<name>`
[20, ..]; `after.<name>` [20, ..]: the values after each step; `norm` [20]: the gradients' norms before
clipping; `average.<name>`: after 20 steps the moving average with the rate min(0.99, (1 + t) /
(10 + t)) at step t, from 1.

contrastive.safetensors: unit vectors `pictures`, `texts`, `hard_texts`, `distractors` [5, 7] and the
logarithm `scale` of the inverse temperature; `loss.plain`, `loss.hard`, `loss.distractors`: the
symmetric InfoNCE with none of the last two, with hard texts, and with both, written with
torch.nn.functional.cross_entropy; `gradient.<case>.<name>`: its gradients by pictures, texts and scale.
"""

import pathlib

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, normalize

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "training"


def adamw():
    generator = torch.Generator().manual_seed(1)
    shapes = {"weight": (4, 3), "bias": (3,), "scale": ()}
    start = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    # From tiny to far above the clipping norm.
    sizes = torch.logspace(-3, 1, 20)[torch.randperm(20, generator=generator)]
    gradients = {
        name: torch.stack([size * torch.randn(shape, generator=generator) for size in sizes])
        for name, shape in shapes.items()
    }
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    average = {name: value.clone() for name, value in start.items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameters["weight"]], "weight_decay": 0.1},
            {"params": [parameters["bias"], parameters["scale"]], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    after, norms = {name: [] for name in shapes}, []
    for step in range(20):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * min(1, (step + 1) / 5)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name][step].clone()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), 1.5))
        optimizer.step()
        rate = min(0.99, (2 + step) / (11 + step))
        for name, parameter in parameters.items():
            after[name].append(parameter.detach().clone())
            average[name] = rate * average[name] + (1 - rate) * parameter.detach()
    tensors = {"norm": torch.stack(norms)}
    for name in shapes:
        tensors[f"start.{name}"] = start[name]
        tensors[f"gradient.{name}"] = gradients[name]
        tensors[f"after.{name}"] = torch.stack(after[name])
        tensors[f"average.{name}"] = average[name]
    save_file(tensors, FOLDER / "adamw.safetensors")


def contrastive():
    generator = torch.Generator().manual_seed(2)
    names = ["pictures", "texts", "hard_texts", "distractors"]
    given = {name: normalize(torch.randn(5, 7, generator=generator), dim=-1) for name in names}
    given["scale"] = torch.tensor(2.5)
    own = torch.arange(5)
    tensors = dict(given)
    for case in ["plain", "hard", "distractors"]:
        v = {name: value.clone().requires_grad_() for name, value in given.items()}
        scale = v["scale"].exp()
        hard = v["hard_texts"] if case != "plain" else v["hard_texts"][:0]
        texts = torch.cat([v["texts"], hard])
        terms = [cross_entropy(scale * v["pictures"] @ texts.T, own)]
        if case == "distractors":
            pictures = torch.cat([v["pictures"], v["distractors"]])
            hard_first = torch.cat([hard, v["texts"]])
            terms.append(cross_entropy(scale * v["texts"] @ pictures.T, own))
            terms.append(cross_entropy(scale * v["distractors"] @ hard_first.T, own))
        else:
            terms.append(cross_entropy(scale * v["texts"] @ v["pictures"].T, own))
        loss = sum(terms) / len(terms)
        loss.backward()
        tensors[f"loss.{case}"] = loss.detach()
        for name in ["pictures", "texts", "scale"]:
            tensors[f"gradient.{case}.{name}"] = v[name].grad
    save_file(tensors, FOLDER / "contrastive.safetensors")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    adamw()
    contrastive()
