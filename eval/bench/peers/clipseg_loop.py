#!/usr/bin/env python3
"""PhraseCut with transformers' CLIPSeg, one call for every (picture, phrase).

    clipseg_loop.py MODEL DATA --dtype f32 --pictures 180 --out FILE

Each call gets its picture and its phrase, as the model's documentation shows; the probabilities are
resized to the picture and counted against the phrase's mask at one threshold. That is less than
`negkit eval table5` does, which counts at 49 thresholds and makes intervals.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate
from torchvision.transforms.functional import pil_to_tensor
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor, CLIPTokenizer, ViTImageProcessor

THRESHOLD = 0.3


def drawn(polygons: list, size: tuple[int, int]) -> torch.Tensor:
    """The mask of a phrase: its instances' polygons, `[height, width]`."""
    mask = Image.new("1", size)
    draw = ImageDraw.Draw(mask)
    for instance in polygons:
        for polygon in instance:
            draw.polygon([tuple(point) for point in polygon], fill=1, outline=1)
    return pil_to_tensor(mask.convert("L"))[0] > 0


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--pictures", type=int, default=180)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    model = CLIPSegForImageSegmentation.from_pretrained(arguments.model, dtype=dtype).eval()
    processor = CLIPSegProcessor(
        ViTImageProcessor(
            size={"height": 352, "width": 352}, resample=2, image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        ),
        CLIPTokenizer.from_pretrained(arguments.model),
    )  # fmt: skip
    tasks = json.loads((arguments.data / "refer_test.json").read_text())
    pictures = list(dict.fromkeys(task["image_id"] for task in tasks))[: arguments.pictures]
    tasks = [task for task in tasks if task["image_id"] in set(pictures)]
    overlap = union = 0
    for task in tasks:
        picture = Image.open(next((arguments.data / "images").glob(f"{task['image_id']}.*")))
        picture = picture.convert("RGB")
        inputs = processor(
            text=[task["phrase"]], images=[picture], padding="max_length", return_tensors="pt"
        )
        logits = model(
            pixel_values=inputs["pixel_values"].to(dtype),
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
        ).logits
        probabilities = logits.float().sigmoid().reshape(1, 1, *logits.shape[-2:])
        size = (picture.height, picture.width)
        marked = interpolate(probabilities, size, mode="bilinear")[0, 0] > THRESHOLD
        meant = drawn(task["Polygons"], picture.size)
        overlap += (marked & meant).sum().item()
        union += (marked | meant).sum().item()
    result = {"phrases": len(tasks), "cumulative_iou": overlap / max(union, 1)}
    arguments.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
