"""Makes fixtures/benchmarks/: small files of every benchmark, made-up vectors, and what is right by NumPy.

Made with numpy 2.4.6 and pillow 13.0.0. `NEGKIT_SHARED_DATA` or ../shared/data must hold negrefcocog and
tiny-coco. Run:
  cargo run -p negkit-image --example decode_to_png -- FOLDER ../shared/data/tiny-coco/val2017/*.jpg
  python eval/parity/benchmarks.py --decoded FOLDER

- `valse.json`, `negrefcocog.json`, `mcq.csv`, `retrieval.csv`, `ccneg.csv`, `ccneg.pt` (as torch.save
  writes it), `dataset_coco.json`, `captions.json`, `labels.txt`, `classnames.json`, `templates.json`,
  `list_attr_celeba.txt`, `list_eval_partition.txt`, `prompts.json`: in the published forms.
- `vectors.json`: a vector for every picture (by the file's name; with a box, by `NAME|x,y,w,h`) and text.
  Some are equal, so that they tie; one text has length 0, which is no direction; one picture is missing.
- `expected.json`: by benchmark and measure a letter for every item (1 right, 0 wrong, - without its
  picture), the count of right ones and the score, computed here in float64 from the files alone.
- `crops.json`: for the 880 boxes of NegRefCOCOg, SHA-256 of `Image.crop` of a picture of 640 x 640 in
  which every pixel is another; and for the photos of tiny-coco, of a box in each, cut out of the pixels
  that negkit decoded (PNG files in the folder `--decoded`).
"""

import argparse
import csv
import hashlib
import io
import json
import os
import pathlib
import pickle
import zipfile

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "fixtures" / "benchmarks"
SHARED = pathlib.Path(os.environ.get("NEGKIT_SHARED_DATA", HERE.parents[2] / "shared" / "data"))
WIDTH = 8
MISSING = "missing.jpg"


class Space:
    """Vectors of pictures and texts, drawn when they are first asked for."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.pictures, self.texts = {}, {}

    def of(self, table, key, like=None, weight=0.6):
        if key not in table:
            vector = self.rng.normal(size=WIDTH)
            if like is not None:
                vector = weight * np.asarray(like) + (1 - weight) * vector
            table[key] = [float(x) for x in np.round(vector, 3)]
        return table[key]

    def picture(self, key, **options):
        return self.of(self.pictures, key, **options)

    def text(self, key, **options):
        return self.of(self.texts, key, **options)

    def unit(self, table, key):
        vector = np.asarray(table[key], dtype=np.float64)
        length = np.linalg.norm(vector)
        return vector / length if length > 0 else np.full(WIDTH, np.nan)

    def similarity(self, picture, text):
        """The cosine; equal vectors give equal ones, for they are rounded alike."""
        return float(np.dot(self.unit(self.pictures, picture), self.unit(self.texts, text)))


def clear(values):
    """No two numbers may be so near that single precision could turn them round, unless equal."""
    values = sorted(v for v in values if np.isfinite(v))
    for a, b in zip(values, values[1:]):
        assert a == b or b - a > 1e-5, (a, b)


def first_is_best(scores):
    clear(scores)
    if not all(np.isfinite(s) for s in scores):
        return "0"
    return "1" if all(scores[0] > other for other in scores[1:]) else "0"


def among(row, right, k):
    clear(row)
    if not all(np.isfinite(s) for s in row):
        return "0"
    best = max(row[i] for i in right)
    ahead = sum(1 for i, s in enumerate(row) if i not in right and s >= best)
    return "1" if ahead < k else "0"


def measure(outcomes, score=None):
    outcomes = "".join(outcomes)
    scored = [c for c in outcomes if c != "-"]
    share = scored.count("1") / len(scored)
    return {"outcomes": outcomes, "right": scored.count("1"), "score": share if score is None else score}


def part(outcomes, keep):
    return measure([o for o, k in zip(outcomes, keep) if k])


def has_word(text, words=("no", "not", "without")):
    return next((w for w in "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split() if w in words), None)


def valse(space):
    items = {}
    for i in range(12):
        image = MISSING if i == 7 else f"v7w_{i % 9}.jpg"
        there, absent = f"There are dogs, case {i}.", f"There are no dogs, case {i}."
        caption, foil = (there, absent) if i % 3 == 0 else (absent, there)
        if i == 5:
            foil = caption
        items[f"existence_{i}"] = {
            "dataset": "visual7w", "image_file": image, "caption": caption, "foil": foil,
            "mturk": {"foil": i % 2, "caption": 3 if i % 4 else 1, "other": 0},
        }
        if image != MISSING:
            picture = space.picture(image)
            space.text(caption, like=picture, weight=0.5)
        space.text(caption)
        space.text(foil)
    space.texts["There are no dogs, case 8."] = [0.0] * WIDTH
    (OUT / "valse.json").write_text(json.dumps(items, indent=1))
    out = []
    for item in items.values():
        if item["image_file"] == MISSING:
            out.append("-")
            continue
        out.append(first_is_best([space.similarity(item["image_file"], item[k]) for k in ("caption", "foil")]))
    values = list(items.values())
    negated = [has_word(v["caption"]) is not None for v in values]
    return {
        "accuracy": measure(out),
        "accuracy, items that annotators agree on": part(out, [v["mturk"]["caption"] >= 2 for v in values]),
        "accuracy, caption negated": part(out, negated),
        "accuracy, foil negated": part(out, [not n for n in negated]),
    }


def box_key(image, box):
    return f"{image}|" + ",".join(repr(float(x)) for x in box)


def negrefcocog(space):
    items, out = [], []
    words = ("no", "not", "without")
    for i in range(12):
        image = f"COCO_train2014_{i % 10:012}.jpg"
        phrase = f"the person {('with no', 'not with', 'without')[i % 3]} hat {i}"
        boxes = [[10.5 + i, 20.25, 100.125, 200.5], [150.75, 0.0, 120.5, 210.25 + i]]
        items.append({"image": image, "phrase": phrase, "ref_bbox": boxes[0], "bbox_list": boxes})
        text = space.text(phrase)
        keys = [box_key(image, box) for box in boxes]
        space.picture(keys[0], like=text if i % 2 else None)
        space.picture(keys[1])
        if i == 4:
            space.pictures[keys[1]] = space.pictures[keys[0]]
        if i == 6:
            space.pictures[keys[1]] = [0.0] * WIDTH
        out.append(first_is_best([space.similarity(key, phrase) for key in keys]))
    (OUT / "negrefcocog.json").write_text(json.dumps(items, indent=1))
    found = {"accuracy": measure(out)}
    for word in words:
        found[f'accuracy, "{word}"'] = part(out, [has_word(item["phrase"]) == word for item in items])
    return found


def negbench_mcq(space):
    kinds, rows, out = ("positive", "negative", "hybrid"), [], []
    for i in range(15):
        image = f"{i % 8:012}.jpg"
        captions = [f"caption {i} of choice {k}, with \"quotes\"" for k in range(4)]
        if i == 3:
            captions[2] = captions[0]
        picture = space.picture(image)
        space.text(captions[0], like=picture if i % 2 else None)
        out.append(first_is_best([(space.text(c), space.similarity(image, c))[1] for c in captions]))
        rows.append([f"data/coco/images/val2017/{image}", "0", *captions, kinds[i % 3]])
    with open(OUT / "mcq.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "correct_answer", *[f"caption_{k}" for k in range(4)], "correct_answer_template"])
        writer.writerows(rows)
    found = {"accuracy": measure(out)}
    for kind in kinds:
        found[f"accuracy, {kind}"] = part(out, [row[-1] == kind for row in rows])
    return found


def retrieval(space, lists):
    """Recall both ways; `lists` are pictures with their captions."""
    pictures = [image for image, _ in lists]
    captions = [(image, text) for image, texts in lists for text in texts]
    there = [image for image in pictures if image in space.pictures]
    known = [(image, text) for image, text in captions if image in there]
    found = {}
    for k in (1, 5, 10):
        out = []
        for image, text in captions:
            if image not in there:
                out.append("-")
                continue
            row = [space.similarity(other, text) for other in there]
            out.append(among(row, [there.index(image)], k))
        found[f"text to image R@{k}"] = measure(out)
    for k in (1, 5, 10):
        out = []
        for image in pictures:
            if image not in there:
                out.append("-")
                continue
            row = [space.similarity(image, text) for _, text in known]
            out.append(among(row, [i for i, (owner, _) in enumerate(known) if owner == image], k))
        found[f"image to text R@{k}"] = measure(out)
    return found


def captioned(space, prefix, count, each, folder=""):
    lists = []
    for i in range(count):
        image = MISSING if i == 4 else f"{prefix}_{i}.jpg"
        texts = [f"{prefix} caption {k} of {i}, it's no dog" for k in range(each)]
        if i == 2:
            texts[1] = f"{prefix} caption 0 of 1, it's no dog"
        if image != MISSING:
            picture = space.picture(image)
            for text in texts:
                space.text(text, like=picture, weight=0.45)
        for text in texts:
            space.text(text)
        lists.append((image, texts))
    return lists


def negbench_retrieval(space):
    lists = captioned(space, "negbench", 14, 2)
    with open(OUT / "retrieval.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["positive_objects", "filepath", "image_id", "captions"])
        for i, (image, texts) in enumerate(lists):
            writer.writerow(["['dog']", f"data/coco/images/val2017/{image}", i, repr(texts)])
    return retrieval(space, lists)


def coco(space):
    lists = captioned(space, "COCO_val2014", 13, 5)
    images = []
    for i, (image, texts) in enumerate(lists):
        sentences = [{"tokens": t.split(), "raw": t, "imgid": i, "sentid": 100 * i + k} for k, t in enumerate(texts)]
        # A sixth caption, which is not used.
        sentences.append({"tokens": [], "raw": "a sixth one", "imgid": i, "sentid": 100 * i + 9})
        images.append({"filepath": "val2014", "sentids": [s["sentid"] for s in sentences], "filename": image,
                       "imgid": i, "split": "test", "sentences": sentences, "cocoid": 1000 + i})
    images.append({"filepath": "train2014", "sentids": [9999], "filename": "other.jpg", "imgid": 99, "split": "train",
                   "sentences": [{"tokens": [], "raw": "another split", "imgid": 99, "sentid": 9999}], "cocoid": 1})
    (OUT / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    annotations = [{"image_id": i, "id": 10 * i + k, "caption": t} for i, (_, texts) in enumerate(lists) for k, t in enumerate(texts)]
    annotations.append({"image_id": 0, "id": 5000, "caption": "a sixth one"})
    names = [{"id": i, "file_name": image, "width": 64, "height": 64} for i, (image, _) in enumerate(lists)]
    (OUT / "captions.json").write_text(json.dumps({"images": names, "annotations": annotations}))
    return retrieval(space, lists)


def ccneg(space):
    pairs, out = [], []
    for i in range(10):
        image = f"cc_{i}.jpg"
        caption, negated = f"a dog and a cat {i}", f"a dog but, no cat {i}"
        picture = space.picture(image)
        text = space.text(caption, like=picture if i % 2 else None)
        space.text(negated.replace(",", ""), like=picture if i % 3 == 0 else None)
        if i == 8:
            space.texts[negated.replace(",", "")] = text
        pairs.append((image, caption, negated))
        out.append(first_is_best([space.similarity(image, caption), space.similarity(image, negated.replace(",", ""))]))
    with open(OUT / "ccneg.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "caption", "negated_caption"])
        writer.writerows([f"cc3m/{image}", caption, negated.replace(",", "")] for image, caption, negated in pairs)
    data = {
        "image_paths": [f"/workspace/datasets/cc3m/{image}" for image, _, _ in pairs],
        "annotations": [{"json": {"caption": c, "url": ""}, "sop_data": {"negative-prompt": n, "num": 1}} for _, c, n in pairs],
        "num_ops": {1: list(range(10))},
    }
    with zipfile.ZipFile(OUT / "ccneg.pt", "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("ccneg/data.pkl", pickle.dumps(data, protocol=2)), ("ccneg/version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return {"accuracy": measure(out)}


def imagenet(space):
    names = [f"thing {chr(97 + i)}" for i in range(7)]
    templates = ["a photo of a {c}.", "a drawing of a {}.", "the {c}"]
    (OUT / "classnames.json").write_text(json.dumps({"other": ["x"], "imagenet1k": names}))
    (OUT / "templates.json").write_text(json.dumps({"imagenet1k": templates, "none": {"a": ["b"]}}))
    fill = lambda template, name: template.replace("{}", "{c}").replace("{c}", name)
    for name in names:
        base = space.text(fill(templates[0], name))
        for template in templates[1:]:
            space.text(fill(template, name), like=base)
    # Two classes that the single template cannot tell apart.
    space.texts[fill(templates[0], names[6])] = space.texts[fill(templates[0], names[5])]
    labels = []
    for i in range(30):
        image = MISSING if i == 11 else f"ILSVRC2012_val_{i:08}.JPEG"
        label = i % 7
        if image != MISSING:
            space.picture(image, like=space.texts[fill(templates[0], names[label])], weight=0.4)
        labels.append((image, label))
    (OUT / "labels.txt").write_text("".join(f"{image} {label}\n" for image, label in labels))

    def class_vector(name, own):
        vectors = [space.unit(space.texts, fill(template, name)) for template in own]
        mean = np.mean(vectors, axis=0)
        return mean / np.linalg.norm(mean)

    found = {}
    for title, own in (("top-1", templates[:1]), ("top-1, 3 templates", templates)):
        classes = [class_vector(name, own) for name in names]
        one, five = [], []
        for image, label in labels:
            if image == MISSING:
                one.append("-")
                five.append("-")
                continue
            row = [float(np.dot(space.unit(space.pictures, image), c)) for c in classes]
            one.append(among(row, [label], 1))
            five.append(among(row, [label], 5))
        found[title] = measure(one)
        found[title.replace("top-1", "top-5")] = measure(five)
    return found


def celeba(space):
    names = ["Smiling", "Eyeglasses", "Young"]
    prompts = {"Eyeglasses": ["a face with glasses", "a face with no glasses"], "Smiling": ["it smiles", "it does not smile"]}
    rows, lines, partition = [], [], []
    for texts in prompts.values():
        for text in texts:
            space.text(text)
    for i in range(24):
        image = MISSING if i == 3 else f"{i:06}.jpg"
        has = [i % 4 == 0, i % 3 == 0, i % 2 == 0]
        rows.append((image, has))
        lines.append(image + " " + " ".join(" 1" if h else "-1" for h in has))
        partition.append(f"{image} {2 if i < 20 else 0}")
        if image != MISSING:
            space.picture(image, like=space.texts[prompts["Eyeglasses"][0 if has[1] else 1]], weight=0.4)
    (OUT / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), " ".join(names) + " ", *lines, ""]))
    (OUT / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    (OUT / "prompts.json").write_text(json.dumps(prompts))
    rows = rows[:20]

    def balanced(outcomes, groups):
        shares = []
        for group in sorted(set(g for g, o in zip(groups, outcomes) if o != "-")):
            own = [o for g, o in zip(groups, outcomes) if g == group and o != "-"]
            shares.append(own.count("1") / len(own))
        return measure(outcomes, float(np.mean(shares)))

    outcomes, groups = [], []
    for number, name in enumerate(sorted(prompts)):
        for image, has in rows:
            there = has[names.index(name)]
            groups.append((number, 0 if there else 1))
            if image == MISSING:
                outcomes.append("-")
                continue
            yes, no = (space.similarity(image, text) for text in prompts[name])
            clear([yes, no])
            outcomes.append("1" if (yes > no if there else no > yes) else "0")
    found = {"balanced accuracy": balanced(outcomes, groups)}
    for title, parity in (("recall, attribute there", 0), ("recall, attribute not there", 1)):
        own = [(o, g) for o, g in zip(outcomes, groups) if g[1] == parity]
        found[title] = balanced([o for o, _ in own], [g for _, g in own])
    for number, name in enumerate(sorted(prompts)):
        own = [(o, g) for o, g in zip(outcomes, groups) if g[0] == number]
        found[f"balanced accuracy, {name}"] = balanced([o for o, _ in own], [g for _, g in own])
    return found


def crops(decoded):
    x, y = np.meshgrid(np.arange(640), np.arange(640))
    coded = Image.fromarray(np.stack([x % 256, y % 256, (x // 256) * 16 + y // 256], -1).astype(np.uint8))
    digest = lambda image, box: hashlib.sha256(
        repr(image.crop((box[0], box[1], box[0] + box[2], box[1] + box[3])).size).encode()
        + image.crop((box[0], box[1], box[0] + box[2], box[1] + box[3])).tobytes()
    ).hexdigest()
    boxes = [box for item in json.loads((SHARED / "negrefcocog" / "NegRefCOCOg.json").read_text()) for box in item["bbox_list"]]
    photos = {}
    rng = np.random.default_rng(3)
    for path in sorted(pathlib.Path(decoded).glob("*.png")):
        image = Image.open(path).convert("RGB")
        width, height = image.size
        # Halves among them, and boxes that reach out of the picture.
        left, top = np.round(rng.uniform(-5, 0.5 * width)) + 0.5, rng.uniform(-5, 0.5 * height)
        box = [float(left), float(top), float(rng.uniform(20, 0.7 * width)), float(np.round(rng.uniform(20, 0.7 * height)))]
        photos[path.stem] = {"box": box, "sha256": digest(image, box)}
    return {"negrefcocog": [digest(coded, box) for box in boxes], "photos": photos}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--decoded", required=True)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    space = Space(11)
    benchmarks = {f.__name__: f for f in (valse, negrefcocog, negbench_mcq, negbench_retrieval, coco, ccneg, imagenet, celeba)}
    expected = {name: make(space) for name, make in benchmarks.items()}
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    (OUT / "vectors.json").write_text(json.dumps({"pictures": space.pictures, "texts": space.texts}) + "\n")
    (OUT / "crops.json").write_text(json.dumps(crops(options.decoded), indent=0) + "\n")
    for name, found in expected.items():
        print(name, {key: f"{value['right']} right, {value['score']:.4f}" for key, value in found.items()})


if __name__ == "__main__":
    main()
