"""Makes fixtures/training: what PyTorch's AdamW and cross-entropy do with fixed numbers.

Made with torch 2.13.0, transformers 5.23.0 and safetensors 0.8 on x86-64.
Run: HF_HUB_OFFLINE=1 python eval/parity/training.py

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
Also `loss.bidirectional` with its gradients by pictures, texts and hard texts: CLIP-bnl's loss as its
authors compute it (`MarginRankingLossWithScore` t2i with the hardest picture, `Margin2Loss` with
margins 0.1 and 0.6 to the picture, 0.1 and 0.3 to the caption, pictures detached there), except that it
is the mean over the batch; margin 0.2, and weights of 0.5 and 0.25 instead of theirs of 0.001, which
would leave nothing to compare.

fine-tuning/: a small CLIP of random weights (`model/`, a folder of transformers), fine-tuned as the
paper does it: vision tower and final layer norm frozen, symmetric InfoNCE, torch.optim.AdamW with its
defaults over all parameters, no clipping, no schedule. `steps.safetensors`: `pixels` [20, 7, 3, 8, 8] and
`ids` [20, 7, 9] of 20 batches; `image_embeds` [20, 7, 8], of the first model, not normalised; `loss` [20];
`gradient.<name>`: gradients of the first step; `after.<name>`: the trained parameters after 20 steps.
Computed in float64, so that the only rounding in a comparison is the other side's.
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


def bidirectional(pictures, texts, denied):
    scores = texts @ pictures.T
    own = scores.diag().view(-1, 1)
    others = (0.2 + scores - own).clamp(min=0).masked_fill(torch.eye(len(texts)) > 0.5, 0)
    ranking = others.max(1)[0].mean()
    pictures = pictures.detach()
    own, to_picture = (texts * pictures).sum(1), (denied * pictures).sum(1)
    to_caption = (denied * texts).sum(1)
    picture = (0.1 + to_picture - own).clamp(min=0) + (-0.6 - to_picture + own).clamp(min=0)
    caption = (0.1 + to_caption - own).clamp(min=0) + (-0.3 - to_caption + own).clamp(min=0)
    return ranking + 0.5 * picture.mean() + 0.25 * caption.mean()


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
    v = {name: value.clone().requires_grad_() for name, value in given.items()}
    loss = bidirectional(v["pictures"], v["texts"], v["hard_texts"])
    loss.backward()
    tensors["loss.bidirectional"] = loss.detach()
    for name in ["pictures", "texts", "hard_texts"]:
        tensors[f"gradient.bidirectional.{name}"] = v[name].grad
    save_file(tensors, FOLDER / "contrastive.safetensors")


def fine_tuning():
    from transformers import CLIPConfig, CLIPModel

    folder = FOLDER / "fine-tuning"
    torch.manual_seed(3)
    text = {"vocab_size": 29, "hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 3, "max_position_embeddings": 9, "projection_dim": 8,
            "bos_token_id": 27, "eos_token_id": 28, "pad_token_id": 28}
    vision = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 8, "patch_size": 4, "projection_dim": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    model = CLIPModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Large enough for a loss that has something to learn; norms around one.
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.3 * torch.randn(parameter.shape))
        model.logit_scale.fill_(2.0)
    model.save_pretrained(folder / "model")
    model = model.double()
    frozen = ("vision_model.", "visual_projection.", "text_model.final_layer_norm.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    steps, count = 20, 7
    pixels = torch.randn(steps, count, 3, 8, 8)
    ids = torch.randint(0, 27, (steps, count, 9))
    ids[:, :, 0] = 27
    for step in range(steps):
        for row in range(count):
            # The end of text, and after it nothing else, as CLIP pads.
            ids[step, row, 2 + (step + row) % 7 :] = 28
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    embeds, losses, tensors = [], [], {}
    for step in range(steps):
        out = model(input_ids=ids[step], pixel_values=pixels[step].double())
        vision = model.vision_model(pixel_values=pixels[step].double()).pooler_output
        embeds.append(model.visual_projection(vision).detach())
        logits = out.logits_per_image
        own = torch.arange(count)
        loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            tensors |= {f"gradient.{n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        losses.append(loss.detach())
    tensors |= {f"after.{n}": p.detach() for n, p in model.named_parameters() if p.requires_grad}
    tensors |= {"loss": torch.stack(losses), "image_embeds": torch.stack(embeds), "pixels": pixels}
    tensors = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    save_file(tensors | {"ids": ids}, folder / "steps.safetensors")
    print("losses", [round(loss.item(), 3) for loss in losses])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    adamw()
    contrastive()
    fine_tuning()
