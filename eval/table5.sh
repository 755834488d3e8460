#!/usr/bin/env bash
# Table 5 of the paper at the small scale: the small CLIPSeg with the stock encoder, CoN-CLIP and
# NegationCLIP, on drawn scenes in the formats of PhraseCut and RefCOCOg (its expressions with "no",
# "not" or "without").
#
#   eval/table5.sh [RUNFOLDER [RESULTS [MORE FLAGS OF `negkit eval table5`]]]
#
# RUNFOLDER is out/eval/table5 and RESULTS eval/results/mini where nothing else is said. It can be
# killed at any moment and started again: what is done is not done again, and the results have the same
# bytes. RUNFOLDER keeps every mask; RESULTS gets table5.run.toml, table5.summary.json,
# table5.summary.csv and table5.md. No network is needed once the crates are there.
set -euo pipefail
cd "$(dirname "$0")/.."

run=${1:-out/eval/table5}
results=${2:-eval/results/mini}

cargo build --release --package negkit-cli --bin negkit
"${CARGO_TARGET_DIR:-target}/release/negkit" eval table5 --scale mini \
    -e stock -e conclip -e negationclip --device cpu --dtype f32 --out "$run" "${@:3}"

mkdir -p "$results"
cp "$run/run.toml" "$results/table5.run.toml"
cp "$run/summary.json" "$results/table5.summary.json"
cp "$run/summary.csv" "$results/table5.summary.csv"
cp "$run/table.md" "$results/table5.md"
