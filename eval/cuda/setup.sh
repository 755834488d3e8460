#!/bin/sh
# Assembles a CUDA 13.0 toolkit from the packages that NVIDIA publishes on PyPI, enough to build
# negkit with `--features cuda` (or `cudnn`) on a Linux x86-64 machine without a GPU, a driver or
# root rights, and to run the result where there is a GPU.
#
#   eval "$(sh eval/cuda/setup.sh [--cudnn] FOLDER)"
#
# The variables to export go to standard output, everything else to standard error.
# Needs python3 with pip (another interpreter: PYTHON=…) and gcc.
# FOLDER/nvidia is replaced when it is there.
set -eu

usage() {
    echo "usage: $0 [--cudnn] FOLDER" >&2
    exit 2
}

fail() {
    echo "$0: $1" >&2
    exit 1
}

cudnn=
folder=
for argument in "$@"; do
    case $argument in
        --cudnn) cudnn=yes ;;
        -*) usage ;;
        *) [ -z "$folder" ] || usage; folder=$argument ;;
    esac
done
[ -n "$folder" ] || usage

python=${PYTHON:-python3}
"$python" -m pip --version >/dev/null 2>&1 || fail "'$python -m pip' does not run: install pip, or name another interpreter in PYTHON"
command -v gcc >/dev/null || fail "gcc is not installed: nvcc compiles the host half of every kernel with it"

# One release, CUDA 13.0: the compiler (nvcc, crt, nvvm), the headers (cccl, runtime) and the
# libraries that candle links (cudart, cublas, curand, nvrtc).
set -- \
    nvidia-cuda-nvcc==13.0.88 \
    nvidia-cuda-crt==13.0.88 \
    nvidia-nvvm==13.0.88 \
    nvidia-cuda-cccl==13.0.85 \
    nvidia-cuda-runtime==13.0.96 \
    nvidia-cublas==13.1.1.3 \
    nvidia-curand==10.4.0.35 \
    nvidia-cuda-nvrtc==13.0.88
# 9.21 is the version whose interface cudarc 0.19 declares.
[ -z "$cudnn" ] || set -- "$@" nvidia-cudnn-cu13==9.21.1.3

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --upgrade --target "$folder" "$@" >&2
root=$folder/nvidia/cu13
[ -f "$root/bin/nvcc" ] || fail "the packages did not bring $root/bin/nvcc"
chmod +x "$root"/bin/* "$root/nvvm/bin/cicc"

# cuDNN's package lies beside the toolkit; build scripts look in one root.
if [ -n "$cudnn" ]; then
    ln -sf "$folder"/nvidia/cudnn/include/* "$root/include/"
    ln -sf "$folder"/nvidia/cudnn/lib/*.so.* "$root/lib/"
fi

# Wheels hold libNAME.so.MAJOR; the linker asks for libNAME.so.
for library in "$root"/lib/*.so.*; do
    ln -sf "$(basename "$library")" "${library%.so.*}.so"
done
ln -sfn lib "$root/lib64"

# candle links libcuda, which belongs to the driver and is in no package. This stub has every
# symbol of cuda.h; each call says CUDA_ERROR_STUB_LIBRARY (34), as the stub in NVIDIA's own
# toolkit does, so that a program run with it finds no GPU instead of failing to start.
stubs=$root/lib/stubs
mkdir -p "$stubs"
{
    cat <<'C'
int cuGetErrorString(int error, const char **text) {
    *text = error == 34 ? "no NVIDIA driver: this libcuda is a stub to link with" : "unknown";
    return 0;
}
int cuGetErrorName(int error, const char **text) {
    *text = error == 34 ? "CUDA_ERROR_STUB_LIBRARY" : "unknown";
    return 0;
}
C
    # With this macro the header declares every version of a function under its own symbol.
    printf '#include <cuda.h>\n' |
        gcc -E -P -D__CUDA_API_VERSION_INTERNAL -I"$root/include" - |
        grep -o '\bCUresult *cu[A-Z][A-Za-z0-9_]* *(' |
        sed 's/CUresult *//; s/ *(//' | sort -u |
        grep -v -x -e cuGetErrorString -e cuGetErrorName |
        sed 's/.*/int &(void) { return 34; }/'
} >"$stubs/libcuda.c"
gcc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so.1" "$stubs/libcuda.c"
ln -sf libcuda.so.1 "$stubs/libcuda.so"

"$root/bin/nvcc" --version >&2

driver_is_installed() {
    PATH=$PATH:/sbin:/usr/sbin
    ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1' && return 0
    IFS=:
    for directory in ${LD_LIBRARY_PATH:-}; do
        [ "$directory" != "$stubs" ] && [ -e "$directory/libcuda.so.1" ] && return 0
    done
    return 1
}

# LD_LIBRARY_PATH comes before the system's own libraries: the stub on it would hide a driver.
run_path=$root/lib
(driver_is_installed) || run_path=$run_path:$stubs

echo "export CUDA_ROOT='$root'"
echo "export CUDA_HOME='$root'"
echo "export PATH='$root/bin':\"\$PATH\""
echo "export LD_LIBRARY_PATH='$run_path'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
# Asked of nvidia-smi where there is one; else Hopper unless the caller says otherwise.
command -v nvidia-smi >/dev/null || echo "export CUDA_COMPUTE_CAP='${CUDA_COMPUTE_CAP:-90}'"
