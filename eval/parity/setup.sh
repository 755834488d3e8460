#!/bin/sh
# Makes the Python environment of the parity scripts: eval/parity/setup.sh FOLDER
# Needs Python 3.11 and about 6 GB of disk. The versions are those that the fixtures were made with;
# the numbers in README.md hold for them.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi

"${PYTHON:-python3}" -m venv "$1"
"$1/bin/pip" install --quiet \
    torch==2.13.0 \
    torchvision==0.28.0 \
    transformers==5.23.0 \
    sentence-transformers==6.2.0 \
    tokenizers==0.23.3 \
    huggingface_hub==2.4.0 \
    diffusers==0.42.1 \
    accelerate==1.15.0 \
    open_clip_torch==3.3.0 \
    timm==1.0.31 \
    safetensors==0.8.0 \
    numpy==2.4.6 \
    pillow==13.0.0 \
    pycocotools==2.0.11 \
    ftfy==6.3.1 \
    pyarrow==26.0.1 \
    zstandard==0.25.0 \
    regex==2026.11.15
echo "$1/bin/python is ready; set HF_HUB_OFFLINE=1, nothing is downloaded"
