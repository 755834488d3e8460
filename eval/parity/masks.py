"""Makes fixtures/masks/masks.json: what pycocotools and PIL make of outlines and run lengths.

Made with pycocotools 2.0.11, pillow 13.0.0 and numpy 2.4.6. `NEGKIT_SHARED_DATA` or ../shared/data must
hold tiny-coco and coco-iou. Run: python eval/parity/masks.py [--cases N --out FILE]

A digest is FNV-1a (64 bits, in hexadecimal) over numpy's `packbits` of the mask, row by row.

- `shared`: by file, the digest of each annotation's mask (`COCO.annToMask`), in the file's order.
- `coco`: polygons, alone and several, in pictures of odd sizes, partly outside; by `frPyObjects` and
  `merge`. `pil`: the same by PhraseCut's rule: points truncated to integers, filled and outlined by PIL,
  one picture a polygon, OR-ed. Each case is [width, height, polygons, digest].
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import random

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

HERE = pathlib.Path(__file__).resolve().parent
SHARED = pathlib.Path(os.environ.get("NEGKIT_SHARED_DATA", HERE.parents[2] / "shared" / "data"))
FILES = ["coco-iou/instances_val2014_100.json", "tiny-coco/instances_val2017.json"]


def digest(mask):
    value = 0xCBF29CE484222325
    for byte in np.packbits(mask.astype(np.uint8)).tobytes():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def shared(name):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(SHARED / name))
    return [digest(coco.annToMask(annotation)) for annotation in coco.dataset["annotations"]]


def corner(rng, width, height, kind):
    """Inside; across the edges; on whole and half pixels; thin."""
    x = rng.uniform(0, width) if kind != 1 else rng.uniform(-0.4 * width, 1.4 * width)
    y = rng.uniform(0, height) if kind != 1 else rng.uniform(-0.4 * height, 1.4 * height)
    if kind == 2:
        return [float(round(x)), float(round(y))]
    if kind == 3:
        return [round(2 * x) / 2, round(2 * y) / 2]
    if kind == 4:
        return [round(x, 2), round(height / 2 + rng.uniform(-1.5, 1.5), 2)]
    return [round(x, 2), round(y, 2)]


def polygons(rng, width, height):
    kind = rng.randrange(5)
    found = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        points = [corner(rng, width, height, kind) for _ in range(rng.choice([3, 3, 4, 5, 7, 12]))]
        if rng.random() < 0.2:
            points.insert(rng.randrange(len(points)), list(points[rng.randrange(len(points))]))
        if rng.random() < 0.3:
            points.append(list(points[0]))
        if rng.random() < 0.3:  # a level side, and one that goes on with it
            x, y = points[-1]
            points += [[x + 3, y], [x + 6, y]]
        found.append(points)
    return found


def by_coco(width, height, outlines):
    flat = [[c for point in outline for c in point] for outline in outlines]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, height, width)))


def by_pil(width, height, outlines):
    mask = np.zeros((height, width), bool)
    for outline in outlines:
        picture = Image.new("L", (width, height), 0)
        points = [(int(x), int(y)) for x, y in outline]
        ImageDraw.Draw(picture).polygon(points, outline=1, fill=1)
        mask |= np.asarray(picture) > 0
    return mask


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "fixtures" / "masks" / "masks.json")
    arguments = parser.parse_args()
    rng = random.Random(17)
    made = {"shared": {name: shared(name) for name in FILES}, "coco": [], "pil": []}
    for name, draw in (("coco", by_coco), ("pil", by_pil)):
        for _ in range(arguments.cases):
            width, height = rng.randrange(1, 60), rng.randrange(1, 60)
            outlines = polygons(rng, width, height)
            if name == "pil" and rng.random() < 0.1:
                outlines.append([outlines[0][0], [5.9, 7.9]])
            made[name].append([width, height, outlines, digest(draw(width, height, outlines))])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
