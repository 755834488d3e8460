#!/usr/bin/env bash
# Makes the small models of weights/mini from nothing: pictures of the world, training, export,
# measurement. About six hours on two cores.
#
#   eval/mini/train.sh [RUNFOLDER [WEIGHTS [RESULTS]]]
#
# The folders are out/mini, weights/mini and eval/results/mini where nothing else is said.
#
# It can be killed at any moment and started again: what is done is not done again, and a training
# goes on from its last checkpoint to the same weights, bit for bit on the same number of threads.
# Everything that decides the result stands in crates/negkit-mini/src/recipe.rs; seeds are fixed.
#
# RUNFOLDER/train.log tells what happened, RUNFOLDER/STAGE/training has a log, validation scores and
# curves.png of each training, RESULTS has the measurements, and WEIGHTS/README.md tells of the models.
# No network is needed once the crates are there.
set -euo pipefail
cd "$(dirname "$0")/../.."

run=${1:-out/mini}
weights=${2:-weights/mini}
results=${3:-eval/results/mini}
mkdir -p "$run"

step() {
    printf '%s  negkit %s\n' "$(date -u '+%Y-%m-%d %H:%M:%S')" "$*"
    "${CARGO_TARGET_DIR:-target}/release/negkit" "$@"
}

{
    cargo build --release --package negkit-cli --bin negkit
    step mini train --out "$run"
    step mini export --out "$run" --weights "$weights" --no-pictures
    step mini quality --weights "$weights" --out "$results"
    # Once more, for now the cards can tell what was measured.
    step mini export --out "$run" --weights "$weights" --quality "$results/quality.json"
    step mini verify --weights "$weights"
} 2>&1 | tee -a "$run/train.log"
