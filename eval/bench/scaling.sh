#!/usr/bin/env bash
# How negkit's time and memory grow: with the side of a picture (UNet, VAE), the batch, the phrases of a
# picture (CLIPSeg) and the threads.
#
#   eval/bench/scaling.sh [--quick] [--dtype f32|bf16] [--only PANEL…] [MORE FLAGS]
#
# The weights are random, at the published sizes. Killed, the same command goes on where it was. Writes
# eval/results/bench/scaling.json and scaling.png. Needs python3, without any package.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
if [ -z "${NEGKIT_BENCH_BIN:-}" ]; then
    cargo build --release --package negkit-cli --bin negkit
    cargo build --release --package negkit-parity --example bench_chart
    NEGKIT_BENCH_BIN=$target/release
fi
export NEGKIT_BENCH_BIN
exec python3 eval/bench/scaling.py "$@"
