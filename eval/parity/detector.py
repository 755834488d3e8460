"""What FastestDet finds in photos of tiny-coco, by ONNX Runtime and NumPy.

Writes crates/negkit-detect-onnx/tests/all/reference.json: per photo the highest score of each class and
the boxes that are left after non-maximum suppression. The decoding follows `handle_preds` of
FastestDet's utils/tool.py: score = objectness x class, centre = (cell + tanh) / cells, size =
sigmoid, suppression within a class at IoU 0.45, boxes over 0.25.

Needs onnxruntime, numpy and pillow; pictures are resized by Pillow (bilinear).

    python eval/parity/detector.py ../shared/data
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIDE, THRESHOLD, IOU = 352, 0.25, 0.45
PHOTOS = 8


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return width * height / (area(a) + area(b) - width * height)


def boxes(out):
    """Class, score and left, top, right, bottom as shares of the picture; the highest score first."""
    cells_y, cells_x = out.shape[1:]
    scores, classes = out[0] * out[5:].max(0), out[5:].argmax(0)
    found = []
    for y in range(cells_y):
        for x in range(cells_x):
            if scores[y, x] > THRESHOLD:
                cx = (x + np.tanh(out[1, y, x])) / cells_x
                cy = (y + np.tanh(out[2, y, x])) / cells_y
                w, h = sigmoid(out[3, y, x]), sigmoid(out[4, y, x])
                box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                found.append((int(classes[y, x]), float(scores[y, x]), [float(v) for v in box]))
    found.sort(key=lambda each: -each[1])
    kept = []
    for each in found:
        if all(other[0] != each[0] or iou(other[2], each[2]) <= IOU for other in kept):
            kept.append(each)
    return kept


def main(data):
    session = onnxruntime.InferenceSession(data / "fastestdet/FastestDet.onnx")
    name = session.get_inputs()[0].name
    photos = {}
    for path in sorted((data / "tiny-coco/val2017").glob("*.jpg"))[:PHOTOS]:
        picture = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BILINEAR)
        bgr = np.asarray(picture, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1) / 255
        out = session.run(None, {name: np.ascontiguousarray(bgr[None])})[0][0]
        scores = (out[:1] * out[5:]).max((1, 2))
        photos[path.name] = {
            "scores": [round(float(score), 6) for score in scores],
            "boxes": [[label, round(score, 6), [round(v, 6) for v in box]] for label, score, box in boxes(out)],
        }
    target = Path(__file__).parents[2] / "crates/negkit-detect-onnx/tests/all/reference.json"
    target.write_text(json.dumps(photos) + "\n")
    print(target, {photo: len(found["boxes"]) for photo, found in photos.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
