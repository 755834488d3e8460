# coding: utf-8
"""Makes fixtures/pickles/: a list of RefCOCO references as each Python pickles it.

Run with Python 2 and with Python 3 (made with 2.7.18 and 3.12.1); each writes a file a protocol. Python 2
has text as bytes, among them Latin-1 that is not UTF-8, numbers as `long`, and shares equal strings.
"""

import os
import pickle
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "pickles")
LATIN = b"the caf\xe9" if sys.version_info[0] == 2 else u"the caf\xe9"
LONG = 2**31 + 5


def reference(number, split):
    sentences = [
        {"tokens": ["no", "hat"], "raw": "No hat", "sent_id": 2 * number, "sent": "no hat"},
        {"tokens": ["the", u"caf\xe9"], "raw": LATIN, "sent_id": 2 * number + 1, "sent": u"the caf\xe9"},
    ]
    return {
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "file_name": "COCO_train2014_000000000001_%d.jpg" % (LONG + number),
        "ann_id": LONG + number,
        "ref_id": number,
        "image_id": 1,
        "split": split,
        "sentences": sentences,
        "category_id": 1,
    }


def main():
    if not os.path.isdir(FOLDER):
        os.makedirs(FOLDER)
    references = [reference(0, "train"), reference(1, "test")]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        name = "python%d-protocol%d.p" % (sys.version_info[0], protocol)
        with open(os.path.join(FOLDER, name), "wb") as file:
            pickle.dump(references, file, protocol)


if __name__ == "__main__":
    main()
