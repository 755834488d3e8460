#!/usr/bin/env bash
# Measures what the small models of weights/mini can do and prints their bars: test scenes, questions,
# painted pictures, masks, and the swap of the text encoder. About half an hour on two cores.
#
#   eval/mini/quality.sh [WEIGHTS [OUT [MORE...]]]      defaults: weights/mini and eval/results/mini
#
# Writes OUT/quality.json and OUT/quality.md. It can be killed at any moment and started again: what
# was measured with the same weights is not measured again. MORE goes to `negkit mini quality`, such as
# --only clip,vqa or --fast (a handful of items, to see that everything runs).
set -euo pipefail
cd "$(dirname "$0")/../.."

weights=${1:-weights/mini}
out=${2:-eval/results/mini}

cargo run --release --package negkit-cli --bin negkit -- \
    mini quality --weights "$weights" --out "$out" "${@:3}"
cat "$out/quality.md"
