#!/usr/bin/env bash
# Table 2 of the paper at the small scale: stock mini-clip, the encoders in the ways of CLIP-bnl and
# CoN-CLIP, and NegationCLIP, on the drawn counterparts of VALSE existence, NegRefCOCOg, ImageNet and
# COCO retrieval.
#
#   eval/table2.sh [RUNFOLDER [RESULTS [ENCODERS [MORE FLAGS OF `negkit eval table2`]]]]
#
# RUNFOLDER is out/eval/table2, RESULTS eval/results/mini and ENCODERS out/mini-encoders where nothing
# else is said. ENCODERS is what eval/mini/encoders.sh makes: encoders with several training seeds, in
# NAME/SEED/export. Where it is not there, the encoders of weights/mini are measured, each trained once.
# The script can be killed at any moment and started again: what is done is not done again, and the
# results have the same bytes. No network is needed once the crates are there.
set -euo pipefail
cd "$(dirname "$0")/.."

run=${1:-out/eval/table2}
results=${2:-eval/results/mini}
encoders=${3:-out/mini-encoders}

if [ -d "$encoders" ]; then
    trained=(-e stock -e "clip-bnl=$encoders/clip-bnl/*/export" -e "conclip=$encoders/conclip/*/export"
             -e "negationclip=$encoders/negationclip/*/export")
else
    trained=(-e stock -e conclip -e negationclip)
fi

cargo build --release --package negkit-cli --bin negkit
"${CARGO_TARGET_DIR:-target}/release/negkit" eval table2 --scale mini "${trained[@]}" \
    --device cpu --dtype f32 --out "$run" "${@:4}"

mkdir -p "$results"
cp "$run/run.toml" "$results/table2.run.toml"
cp "$run/summary.json" "$results/table2.summary.json"
cp "$run/summary.csv" "$results/table2.summary.csv"
cp "$run/table.md" "$results/table2.md"
