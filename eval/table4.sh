#!/usr/bin/env bash
# Table 4 of the paper at the small scale: the small Stable Diffusion with the stock encoder, CoN-CLIP
# and NegationCLIP, scored by Neg Score and TIFA.
#
#   eval/table4.sh [RUNFOLDER [RESULTS [MORE FLAGS OF `negkit eval table4`]]]
#
# RUNFOLDER is out/eval/table4 and RESULTS eval/results/mini where nothing else is said. It can be
# killed at any moment and started again: what is done is not done again, and the results have the same
# bytes. RUNFOLDER keeps every picture; RESULTS gets table4.run.toml, table4.summary.json,
# table4.summary.csv and table4.md. No network is needed once the crates are there.
set -euo pipefail
cd "$(dirname "$0")/.."

run=${1:-out/eval/table4}
results=${2:-eval/results/mini}

cargo build --release --package negkit-cli --bin negkit
"${CARGO_TARGET_DIR:-target}/release/negkit" eval table4 --scale mini \
    -e stock -e conclip -e negationclip --device cpu --dtype f32 --out "$run" "${@:3}"

mkdir -p "$results"
cp "$run/run.toml" "$results/table4.run.toml"
cp "$run/summary.json" "$results/table4.summary.json"
cp "$run/summary.csv" "$results/table4.summary.csv"
cp "$run/table.md" "$results/table4.md"
