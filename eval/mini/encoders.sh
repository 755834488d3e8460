#!/usr/bin/env bash
# Fine-tunes the encoders of Table 3 from stock mini-clip: Rand-P1, P1, P2, P1+P2 (negationclip),
# and in the ways of CoN-CLIP and CLIP-bnl, each with three training seeds.
#
#   eval/mini/encoders.sh [FOLDER [SEEDS]]
#
# FOLDER is out/mini-encoders and SEEDS 1,2,3 where nothing else is said. Each encoder lies in
# FOLDER/NAME/SEED/export, in transformers' layout (CLIPModel, f16), its log and curves beside it in
# FOLDER/NAME/SEED/training. FOLDER/SHA256 lists the hashes of the weights.
#
# It can be killed at any moment and started again. The recipe is crates/negkit-mini/src/recipe.rs,
# fine_tuning(). No network is needed once the crates are there.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${1:-out/mini-encoders}
seeds=${2:-1,2,3}
mkdir -p "$out"

cargo build --release --package negkit-cli --bin negkit
"${CARGO_TARGET_DIR:-target}/release/negkit" mini encoders --out "$out" --seeds "$seeds" \
    2>&1 | tee -a "$out/encoders.log"
(cd "$out" && sha256sum ./*/[0-9]*/export/model.safetensors > SHA256)
