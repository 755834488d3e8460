"""Makes fixtures/captions: captions in every format that `negkit captions stats` reads, and recounts.

Made with numpy 2.4.6, regex 2026.11.15, pyarrow 26.0.1 and zstandard 0.25.0. `NEGKIT_SHARED_DATA` or
../shared/data must hold tiny-coco, negrefcocog and negbench. Run: python eval/parity/caption_stats.py

The captions are made up here, with what makes counting hard: contractions with either apostrophe, words
that hold others, "w/o", accents, other scripts, quotes and commas, empty and null captions. Each file has
the same ones, but that plain text and tab-separated values have no null: those are empty there.

`counts.json` has for each file (`shared`: of the data that is read in place, with the column) captions,
empty, missing, words, negated captions, negations, and by entry of the list [times, captions]. Words are
found by one regular expression here. `interval` is the 95 % interval of the share of negations among words
by a bootstrap over captions (2.5 and 97.5 percentile of 10,000 resamples).
"""

import csv
import gzip
import json
import os
import pathlib
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import regex
import zstandard

HERE = pathlib.Path(__file__).resolve().parent
WORDS = HERE.parents[1] / "crates" / "negkit-stats" / "words"
SHARED = pathlib.Path(os.environ.get("NEGKIT_SHARED_DATA", HERE.parents[2] / "shared" / "data"))
OUT = HERE / "fixtures" / "captions"

LETTER = r"(?:[\p{Alphabetic}\p{N}--[\u02bc]])[\u0300-\u036f]*"
WORD = regex.compile(rf"(?V1)(?:{LETTER})+(?:['\u2018\u2019\u02bc\uff07](?:{LETTER})+)*")


def normal(text):
    return regex.sub("[\u2018\u2019\u02bc\uff07]", "'", text).lower()


def entries(*names):
    lines = [line.strip() for name in names for line in (WORDS / f"{name}.txt").read_text().splitlines()]
    return [line.lower() for line in lines if line and not line.startswith("#")]


class Recount:
    def __init__(self, listed):
        self.listed = listed
        self.endings = [entry[1:] for entry in listed if entry.startswith("*")]
        plain = [entry for entry in listed if not entry.startswith("*")]
        # An entry's words, and the pattern of what stands between them.
        self.plain = [
            (entry, regex.split("[ /-]", entry), ["\\s+" if c == " " else c for c in regex.findall("[ /-]", entry)])
            for entry in plain
        ]
        self.plain.sort(key=lambda entry: -len(entry[1]))

    def caption(self, text):
        """Its words, and its negations in order."""
        tokens = list(WORD.finditer(text))
        words = [normal(token.group()) for token in tokens]
        gaps = [text[a.end() : b.start()] for a, b in zip(tokens, tokens[1:])]
        count, found, i = len(words), [], 0
        while i < len(words):
            for entry, parts, joints in self.plain:
                n = len(parts)
                if words[i : i + n] == parts and all(
                    regex.fullmatch(joint, gap) for joint, gap in zip(joints, gaps[i : i + n - 1])
                ):
                    found.append(entry)
                    count -= sum(joint in "/-" for joint in joints)
                    i += n
                    break
            else:
                for ending in self.endings:
                    if words[i].endswith(ending):
                        found.append("*" + ending)
                        break
                i += 1
        return count, found

    def of(self, captions):
        result = {"captions": 0, "empty": 0, "missing": 0, "words": 0, "negated": 0, "negations": 0, "entries": {}}
        h, w = [], []
        for text in captions:
            if text is None:
                result["missing"] += 1
                continue
            if not text.strip():
                result["empty"] += 1
                continue
            words, found = self.caption(text)
            h.append(len(found))
            w.append(words)
            result["captions"] += 1
            result["words"] += words
            result["negated"] += bool(found)
            result["negations"] += len(found)
            for entry in set(found):
                times = result["entries"].setdefault(entry, [0, 0])
                times[0] += found.count(entry)
                times[1] += 1
        h, w = np.array(h), np.array(w)
        draws = np.random.default_rng(0).integers(0, len(h), (10_000, len(h)), dtype=np.int32)
        shares = h[draws].sum(1) / w[draws].sum(1)
        result["interval"] = list(np.percentile(shares, [2.5, 97.5]))
        return result


def made_up():
    rng = random.Random(20)
    scenes = ["a man on a beach", "Two dogs in the park", "a kitchen", "the bus at night", "A woman, riding a horse",
              'a sign that says "stop"', "une scène de café", "кошка на столе", "海滩上的狗", "a cafe\u0301 at noon",
              "a knotted nose-ring", "noble notebooks", "an anonymous nobleman", "3.5 t-shirts & 1/2 hat",
              "a very long hallway with many doors, windows, lamps, plants, and pictures of other hallways"]
    tails = ["", "", "", "with no hat", "without a dog", "w/o shoes", "that isn't red", "that isn’t red",
             "and he doesnʼt smile", "NOT moving", "where nobody sits", "with neither cats nor dogs", "with no one in it",
             "w / o sugar", "w/out sugar", "it mustn't rain", "can’t see 'no' here", "No. 5", "dont walk",
             "free of charge", "lacking  leaves", "cannot, can not", "w/o w/o", "ain‘t", "n't"]
    captions = [" ".join([rng.choice(scenes), rng.choice(tails)]).strip() for _ in range(400)]
    captions[17] = ""
    captions[60] = " \u00a0 "
    captions[61] = "... !"
    captions[120] = None
    captions[121] = None
    return captions


def write(captions):
    OUT.mkdir(parents=True, exist_ok=True)
    annotations = [{"image_id": 7 * i, "id": i, "caption": text} for i, text in enumerate(captions)]
    data = {
        "info": {"description": "made up", "year": 2026},
        "images": [{"id": 7 * i, "file_name": f"{i}.jpg", "tags": ["}", "]", '\\"']} for i in range(3)],
        "annotations": annotations,
        "licenses": [{"id": 1, "name": "none"}],
    }
    coco = json.dumps(data, indent=1).encode()
    (OUT / "coco.json").write_bytes(coco)
    (OUT / "coco.json.gz").write_bytes(gzip.compress(coco, mtime=0))
    (OUT / "list.json").write_text(json.dumps(annotations, ensure_ascii=False), encoding="utf-8")
    lines = "".join(json.dumps(a, ensure_ascii=bool(a["id"] % 2)) + "\n" for a in annotations)
    (OUT / "lines.jsonl").write_text(lines, encoding="utf-8")
    (OUT / "lines.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    some = [text or "" for text in captions]
    with open(OUT / "table.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["url", "caption", "licence"])
        table.writerows([f"http://example.org/{i}", text, "none, of \"any\" kind\nat all"] for i, text in enumerate(some))
    tabs = "url\tcaption\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(some))
    (OUT / "table.tsv").write_text(tabs, encoding="utf-8")
    text = "\n".join(some)
    (OUT / "plain.txt").write_text(text, encoding="utf-8")
    # Two members, as `cat a.gz b.gz` makes them.
    half = len(text.encode()) // 2
    members = [gzip.compress(part, mtime=0) for part in (text.encode()[:half], text.encode()[half:])]
    (OUT / "plain.txt.gz").write_bytes(b"".join(members))
    (OUT / "plain.txt.zst").write_bytes(zstandard.compress(text.encode()))
    table = pa.table({"url": [str(i) for i in range(len(captions))], "TEXT": captions})
    pq.write_table(table, OUT / "snappy.parquet", row_group_size=150, compression="snappy")
    pq.write_table(table, OUT / "zstd.parquet", compression="zstd", use_dictionary=False, data_page_version="2.0")
    lists = [captions[i : i + 5] for i in range(0, len(captions), 5)]
    table = pa.table({"image": list(range(len(lists))), "caption": lists})
    pq.write_table(table, OUT / "lists.parquet", row_group_size=33, compression="gzip")


def shared():
    def read(name):
        with open(SHARED / name, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file)) if name.endswith(".csv") else json.load(file)

    coco = read("tiny-coco/captions_val2017.json")
    yield "tiny-coco/captions_val2017.json", "caption", [a["caption"] for a in coco["annotations"]]
    phrases = read("negrefcocog/NegRefCOCOg.json")
    yield "negrefcocog/NegRefCOCOg.json", "phrase", [item["phrase"] for item in phrases]
    name = "negbench/COCO_val_mcq_llama3.1_rephrased.csv"
    for column in ("caption_0", "caption_3"):
        yield name, column, [row[column] for row in read(name)]


def main():
    captions = made_up()
    write(captions)
    some = [text or "" for text in captions]
    default, extended = Recount(entries("default")), Recount(entries("default", "extended"))
    counts = {
        "default": default.of(captions),
        "extended": extended.of(captions),
        "default_without_null": default.of(some),
        "shared": [
            {"file": name, "column": column, "default": default.of(texts), "extended": extended.of(texts)}
            for name, column, texts in shared()
        ],
    }
    (OUT / "counts.json").write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
