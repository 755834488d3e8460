#!/bin/sh
# Checks what of CUDA can be checked without a GPU: eval/cuda/check.sh FOLDER
#
# FOLDER is that of eval/cuda/setup.sh, which installs there what is missing. Compiles attention's
# kernels for every architecture and prints registers and spills, runs them on the CPU, and builds and
# tests the crates that hold them. Where there is a GPU, the tests run the kernels on it as well.
set -eu
cd "$(dirname "$0")/../.."

[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
variables=$(sh eval/cuda/setup.sh "$1")
eval "$variables"

ptx=$(mktemp)
trap 'rm -f "$ptx"' EXIT
nvcc -ptx -O3 -std=c++17 -arch=compute_80 -o "$ptx" crates/negkit-kernels/src/cuda/attention.cu
for architecture in sm_80 sm_86 sm_89 sm_90 sm_100 sm_120; do
    echo "$architecture:"
    ptxas -arch="$architecture" -v "$ptx" -o /dev/null 2>&1 |
        grep -oE "entry function '[a-z0-9_]+'|[0-9]+ bytes spill stores|Used [0-9]+ registers" |
        paste - - - | sed 's/entry function/ /' | sort
done

cargo test --locked -p negkit-kernels --test cuda_emulated
cargo test --locked -p negkit-kernels --lib --features cuda cuda
cargo test --locked -p negkit-nn --lib --features cuda -- cuda device
