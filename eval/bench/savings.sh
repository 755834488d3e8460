#!/usr/bin/env bash
# What every saving of `negkit txt2img` gains and what it changes: time and PSNR against the exact
# picture, and at mini scale Neg Score and TIFA.
#
#   eval/bench/savings.sh [PROMPTS [ROUNDS]]
#
# PROMPTS of each score are painted (12 where nothing is said), ROUNDS times for the clock (3). Writes
# eval/results/bench/savings.md and .json. Needs python3, without any package.
set -euo pipefail
cd "$(dirname "$0")/../.."

prompts=${1:-12}
rounds=${2:-3}
target=${CARGO_TARGET_DIR:-target}
if [ -z "${NEGKIT_BENCH_BIN:-}" ]; then
    cargo build --release --package negkit-cli --bin negkit
    cargo build --release --package negkit-parity --example savings
    NEGKIT_BENCH_BIN=$target/release
fi
results=eval/results/bench
mkdir -p "$results" out/bench/savings
{
    echo "# Fewer operations for nearly the same picture"
    echo
    echo "Made by \`eval/bench/savings.sh $prompts $rounds\` with the small model: 20 steps, 64 px. Time is the"
    echo "fastest of $rounds rounds, sampling and decoding; PSNR is against the exact picture from the same noise."
    echo
    "$NEGKIT_BENCH_BIN/examples/savings" --rounds "$rounds" --out "$results/savings.json"
} >"$results/savings.md.partial"

scores=out/bench/savings
score() {
    local name=$1
    shift
    "$NEGKIT_BENCH_BIN/negkit" eval table4 --scale mini -e stock --device cpu --limit "$prompts" \
        --images-per-prompt 2 --out "$scores/$name" "$@" >"$scores/$name.txt"
}
score exact
score guidance-0-0.8 --guidance-interval 0:0.8
score guidance-0-0.5 --guidance-interval 0:0.5
score deep-cache-2 --deep-cache 2
score deep-cache-3 --deep-cache 3
score token-merging-0.5 --token-merging 0.5
{
    echo
    echo "Scores with the stock encoder, $prompts prompts each, 2 pictures a prompt with a negation (the intervals"
    echo "in the runs' tables are wide at this size):"
    echo
    echo "| what is left out | Neg Score | TIFA |"
    echo "|---|---|---|"
    for run in exact guidance-0-0.8 guidance-0-0.5 deep-cache-2 deep-cache-3 token-merging-0.5; do
        python3 - "$run" "$scores/$run/summary.json" <<'PYTHON'
import json, sys
stock = json.load(open(sys.argv[2]))["encoders"][0]
cell = lambda s: f"{s['estimate']:.3f} [{s['low']:.3f}, {s['high']:.3f}]"
print(f"| {sys.argv[1]} | {cell(stock['neg_score'])} | {cell(stock['tifa'])} |")
PYTHON
    done
} >>"$results/savings.md.partial"
mv "$results/savings.md.partial" "$results/savings.md"
echo "$results/savings.md"
