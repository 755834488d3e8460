#!/bin/sh
# Makes the Python environment of the peers that negkit is timed beside: eval/bench/setup.sh FOLDER
# Needs Python 3.11 and about 7 GB of disk. Python is not needed to use negkit.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi

[ -x "$1/bin/python" ] || "${PYTHON:-python3}" -m venv "$1"
"$1/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 \
    torchvision==0.28.0 \
    transformers==5.23.0 \
    tokenizers==0.23.3 \
    huggingface_hub==2.4.0 \
    diffusers==0.42.1 \
    accelerate==1.15.0 \
    open_clip_torch==3.3.0 \
    timm==1.0.31 \
    sentence-transformers==6.2.0 \
    safetensors==0.8.0 \
    numpy==2.4.6 \
    pillow==13.0.0 \
    ftfy==6.3.1 \
    regex==2026.11.15 \
    openvino==2026.4.1
# stable-diffusion.cpp, through a binding with compiled wheels. Rows that need it say so when it is
# missing; the others do without.
"$1/bin/pip" install --quiet --disable-pip-version-check cyllama==0.2.18 ||
    echo "$0: cyllama did not install: no rows of stable-diffusion.cpp" >&2
echo "$1/bin/python is ready" >&2
