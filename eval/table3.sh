#!/usr/bin/env bash
# Table 3 of the paper at the small scale: stock mini-clip and NegationCLIP fine-tuned on captions of
# Rand-P1, P1, P2 and both, on the drawn counterparts of VALSE existence and NegRefCOCOg.
#
#   eval/table3.sh [RUNFOLDER [RESULTS [ENCODERS [MORE FLAGS OF `negkit eval table3`]]]]
#
# RUNFOLDER is out/eval/table3, RESULTS eval/results/mini and ENCODERS out/mini-encoders where nothing
# else is said. ENCODERS is what eval/mini/encoders.sh makes: encoders with several training seeds, in
# NAME/SEED/export. Where it is not there, the encoders of weights/mini are measured, each trained once.
# The script can be killed at any moment and started again: what is done is not done again, and the
# results have the same bytes. No network is needed once the crates are there.
set -euo pipefail
cd "$(dirname "$0")/.."

run=${1:-out/eval/table3}
results=${2:-eval/results/mini}
encoders=${3:-out/mini-encoders}

if [ -d "$encoders" ]; then
    trained=(-e stock -e "rand-p1=$encoders/rand-p1/*/export" -e "p1=$encoders/p1/*/export"
             -e "p2=$encoders/p2/*/export" -e "p1+p2=$encoders/negationclip/*/export")
else
    trained=(-e stock -e rand-p1=negationclip-rand-p1 -e p1=negationclip-p1 -e p2=negationclip-p2
             -e p1+p2=negationclip)
fi

cargo build --release --package negkit-cli --bin negkit
"${CARGO_TARGET_DIR:-target}/release/negkit" eval table3 --scale mini "${trained[@]}" \
    --device cpu --dtype f32 --out "$run" "${@:4}"

mkdir -p "$results"
cp "$run/run.toml" "$results/table3.run.toml"
cp "$run/summary.json" "$results/table3.summary.json"
cp "$run/summary.csv" "$results/table3.summary.csv"
cp "$run/table.md" "$results/table3.md"
