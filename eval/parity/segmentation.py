"""Makes fixtures/segmentation/scores.json: segmentation scores in two protocols, recomputed in NumPy.

Made with numpy 2.4.6 (scipy 1.17.1 checks the Simpson rule where the number of points is odd). Run:
python eval/parity/segmentation.py

The probabilities are no files: `phrase` below makes them by integer arithmetic that any language can
repeat exactly (SplitMix64 of phrase and pixel). Some lie exactly on a threshold.

Every threshold has a mask of its own here, and nothing is sorted or binned: the plain reading of
- timojl/clipseg, metrics.py, FixedIntervalMetrics.value (`clipseg`; every phrase a class of its own, as
  its PhraseCut dataset numbers them), and
- ChenyunWu/PhraseCutDataset, utils/iou.py and utils/evaluator.py (`phrasecut`; the average precision, of
  which it has none, is the sum of each precision times the recall that it adds).
"""

import json
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).parent / "fixtures" / "segmentation" / "scores.json"
THRESHOLDS = np.linspace(0, 1, 51)[1:-1]
# PyTorch compares a float32 tensor with a number in float32.
COMPARED = THRESHOLDS.astype(np.float32)
ACCURACY = (0.5, 0.6, 0.7, 0.8, 0.9)

# name -> protocol, and per phrase: width, height, radius of the truth, sixteenths of the probability kept.
SETS = {
    "clipseg": ("clipseg", [(352, 352, r, 16) for r in (20, 55, 90, 130, 170, 40)]),
    # Nothing above the highest thresholds: an even number of points, and a phrase with no truth.
    "clipseg-timid": ("clipseg", [(352, 352, r, 15) for r in (20, 0, 90, 150)]),
    "phrasecut": ("phrasecut", [(500, 375, 60, 16), (333, 500, 120, 16), (640, 427, 25, 16), (91, 67, 80, 16)]),
    "phrasecut-timid": ("phrasecut", [(500, 375, 60, 15), (400, 300, 0, 15), (37, 53, 12, 12)]),
}


def splitmix64(x):
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def phrase(index, width, height, radius, sixteenths):
    """Probabilities (float32) and truth (bool) of a phrase, row by row."""
    pixel = np.arange(width * height, dtype=np.uint64)
    drawn = (splitmix64(np.uint64(index << 32) + pixel) >> np.uint64(48)).astype(np.int64)
    x, y = pixel.astype(np.int64) % width, pixel.astype(np.int64) // width
    truth = (x - width // 2) ** 2 + (y - height // 3) ** 2 < radius**2
    level = np.where(truth, 20000 + ((drawn * 45535) >> 16), (drawn * drawn) >> 17)
    probability = ((level * sixteenths) >> 4).astype(np.float32) / np.float32(65536)
    on_threshold = COMPARED[((drawn % 49) * sixteenths) >> 4]
    return np.where(drawn % 13 == 0, on_threshold, probability).astype(np.float32), truth


def confusion(probabilities, truth):
    """[thresholds, 4] of tp, fp, fn, tn."""
    rows = []
    for threshold in COMPARED:
        mask = probabilities > threshold
        rows.append([(mask & truth).sum(), (mask & ~truth).sum(), (~mask & truth).sum(), (~mask & ~truth).sum()])
    return np.array(rows, dtype=np.int64)


def simps(y, x):
    """scipy.integrate.simps(y, x, even="avg"), as SciPy had it before 1.11."""

    def pairs(y, x):
        h0, h1 = np.diff(x)[0::2], np.diff(x)[1::2]
        assert (h0 > 0).all() and (h1 > 0).all()
        y0, y1, y2 = y[0:-2:2], y[1:-1:2], y[2::2]
        return ((h0 + h1) / 6 * (y0 * (2 - h1 / h0) + y1 * (h0 + h1) ** 2 / (h0 * h1) + y2 * (2 - h0 / h1))).sum()

    def trapezium(a, b):
        return 0.5 * (x[b] - x[a]) * (y[a] + y[b])

    if len(y) % 2 == 0:
        return 0.5 * (trapezium(-2, -1) + pairs(y[:-1], x[:-1]) + trapezium(0, 1) + pairs(y[1:], x[1:]))
    area = pairs(y, x)
    from scipy.integrate import simpson

    assert abs(simpson(y, x=x) - area) < 1e-13
    return area


def clipseg(counts):
    def ratio(part, whole):
        return part / (1 + whole)

    summed = counts.sum(0)
    tp, fp, fn, tn = summed.T
    marked = tp + fp > 0
    points = set(zip(ratio(tp, tp + fn)[marked], ratio(tp, tp + fp)[marked]))
    recalls, precisions = map(np.array, zip(*sorted(points)))
    foreground = ratio(tp, tp + fp + fn)
    return {
        "points": len(points),
        "average_precision": simps(precisions, recalls),
        "ious": ratio(counts[..., 0], counts[..., :3].sum(-1)),
        "foreground_iou": foreground,
        "binary_iou": 0.5 * foreground + 0.5 * ratio(tn, tn + fn + fp),
    }


def phrasecut(counts):
    def ratio(part, whole):
        return np.where(part == 0, 0.0, part / np.maximum(whole, 1))

    tp, fp, fn, tn = counts.sum(0).T
    foreground = ratio(tp, tp + fp + fn)
    marked = tp + fp > 0
    recalls, precisions = ratio(tp, tp + fn)[marked][::-1], ratio(tp, tp + fp)[marked][::-1]
    return {
        "points": len(set(zip(recalls, precisions))),
        "average_precision": (np.diff(recalls, prepend=0) * precisions).sum(),
        "ious": ratio(counts[..., 0], counts[..., :3].sum(-1)),
        "foreground_iou": foreground,
        "binary_iou": 0.5 * foreground + 0.5 * ratio(tn, tn + fn + fp),
    }


def main():
    sets = {}
    for name, (protocol, phrases) in SETS.items():
        counts = np.stack([confusion(*phrase(index, *shape)) for index, shape in enumerate(phrases)])
        scores = {"clipseg": clipseg, "phrasecut": phrasecut}[protocol](counts)
        ious = scores.pop("ious")
        sets[name] = {
            "protocol": protocol,
            "phrases": phrases,
            "marked_above_0.5": counts[:, 24, :2].sum(-1).tolist(),
            "mean_iou": ious.mean(0).tolist(),
            "accuracy": [[float((ious[:, t] > bound).mean()) for bound in ACCURACY] for t in range(49)],
            **{key: value if isinstance(value, int) else np.asarray(value).tolist() for key, value in scores.items()},
        }
        print(name, scores["points"], "points, average precision", scores["average_precision"])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"thresholds": COMPARED.astype(float).tolist(), "sets": sets}) + "\n")


if __name__ == "__main__":
    main()
