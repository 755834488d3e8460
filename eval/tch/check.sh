#!/usr/bin/env bash
# Does libtorch paint the same pictures as negkit's own engine?
#
#   eval/tch/check.sh [LIBTORCH_FOLDER [MODEL]]
#
# Installs libtorch into LIBTORCH_FOLDER (out/libtorch) where it is not there yet, and runs the tests of
# crates/negkit-diffusion-tch on the small model with random weights; with MODEL, a pipeline at full
# size, on that too (minutes).
set -euo pipefail
cd "$(dirname "$0")/../.."

eval "$(sh eval/tch/setup.sh "${1:-out/libtorch}")"
run=(cargo test --locked --manifest-path crates/negkit-diffusion-tch/Cargo.toml)
if [ -n "${2:-}" ]; then
    NEGKIT_TCH_MODEL=$(realpath "$2") "${run[@]}" -- --include-ignored --nocapture
else
    "${run[@]}" -- --nocapture
fi
