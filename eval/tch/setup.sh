#!/bin/sh
# Installs libtorch 2.0.0 for the CPU out of PyPI's torch, for crates/negkit-diffusion-tch:
#
#   eval "$(sh eval/tch/setup.sh FOLDER)"
#
# The variables to export go to standard output, everything else to standard error. Needs Python 3.11
# or older with pip (another interpreter: PYTHON=…) and a C++ compiler; 600 MB to download, 1.2 GB on
# disk, of which most is removed again. What lies in FOLDER already is kept.
set -eu

fail() {
    echo "$0: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: $0 FOLDER"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
libraries=$folder/torch/lib

if [ ! -e "$folder/complete" ]; then
    # PyPI's x86-64 torch is the CUDA build. Its CPU half needs these two libraries of CUDA, and no
    # other package.
    "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --upgrade --target "$folder" \
        torch==2.0.0 nvidia-cuda-runtime-cu11==11.7.99 nvidia-cuda-cupti-cu11==11.7.101 >&2
    # Without the CUDA half tch builds for the CPU; libtorch.so is nothing but a name for both halves.
    rm -f "$libraries"/libtorch_cuda*.so "$libraries/libc10_cuda.so"
    ln -sf libtorch_cpu.so "$libraries/libtorch.so"
    touch "$folder/complete"
fi
[ -e "$libraries/libtorch_cpu.so" ] || fail "the package did not bring $libraries/libtorch_cpu.so"

echo "export LIBTORCH='$folder/torch'"
# The wheel is built with the old C++ ABI.
echo "export LIBTORCH_CXX11_ABI=0"
echo "export LD_LIBRARY_PATH='$libraries'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
