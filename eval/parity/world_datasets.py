"""Opens a dataset written by negkit-world with the tools that the formats are made for.

    cargo run -p negkit-world --example write_dataset -- FOLDER
    python eval/parity/world_datasets.py FOLDER

Checks that pycocotools reads the COCO files and rasterises polygons and RLE to the same masks, that
Python unpickles refs(umd).p to what the JSON holds, and that PIL fills PhraseCut's polygons to
the masks of their instances. Written with pycocotools 2.0, Pillow 12; prints what it compared and
fails on the first difference.
"""

import contextlib
import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools.coco import COCO


def coco(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def main(folder):
    masks, sides = {}, {}
    for split in ("train2014", "val2014"):
        polygons = coco(folder / f"annotations/instances_{split}.json")
        rles = coco(folder / f"annotations/instances_rle_{split}.json")
        captions = coco(folder / f"annotations/captions_{split}.json")
        for image in polygons.loadImgs(polygons.getImgIds()):
            picture = Image.open(folder / split / image["file_name"])
            assert picture.size == (image["width"], image["height"]), image
            assert len(captions.getAnnIds(imgIds=image["id"])) == 5, image
            sides[image["id"]] = image["width"]
        for annotation in polygons.loadAnns(polygons.getAnnIds()):
            mask = polygons.annToMask(annotation)
            other = rles.annToMask(rles.anns[annotation["id"]])
            assert (mask == other).all(), annotation["id"]
            assert mask.sum() == annotation["area"], annotation["id"]
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert box == annotation["bbox"], annotation["id"]
            masks[annotation["id"]] = mask
    print(f"COCO: {len(sides)} pictures, {len(masks)} instances: polygons = RLE = area = box")

    with open(folder / "refcocog/refs(umd).p", "rb") as file:
        refs = pickle.load(file)
    with open(folder / "refcocog/refs(umd).json") as file:
        assert refs == json.load(file)
    instances = coco(folder / "refcocog/instances.json")
    for ref in refs:
        assert instances.anns[ref["ann_id"]]["category_id"] == ref["category_id"], ref
        assert [sentence["sent_id"] for sentence in ref["sentences"]] == ref["sent_ids"]
    print(f"RefCOCOg: {len(refs)} references unpickled, the same as the JSON")

    tasks = 0
    for split in ("train", "val", "test"):
        with open(folder / f"phrasecut/refer_{split}.json") as file:
            for task in json.load(file):
                side = sides[task["image_id"]]
                for ann_id, outlines in zip(task["ann_ids"], task["Polygons"]):
                    filled = Image.new("L", (side, side))
                    draw = ImageDraw.Draw(filled)
                    for outline in outlines:
                        points = [(int(x), int(y)) for x, y in outline]
                        draw.polygon(points, fill=1, outline=1)
                    assert (np.asarray(filled) == masks[ann_id]).all(), (task["task_id"], ann_id)
                tasks += 1
    print(f"PhraseCut: {tasks} phrases, polygons filled by PIL = masks")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
