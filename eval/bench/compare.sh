#!/usr/bin/env bash
# negkit beside PyTorch (diffusers, transformers), OpenVINO, candle-transformers and
# stable-diffusion.cpp, on the same random weights and inputs, in turns: one run of every engine, then
# the next round.
#
#   eval/bench/compare.sh [--only ROW…] [--rounds N] [--repeat N] [--quick] [--list] [MORE FLAGS]
#
# `--list` names the rows, `--help` tells all flags. Everything it needs is put below out/bench (10 GB
# with all rows); a Python environment is made there unless NEGKIT_BENCH_VENV names one. Killed, the
# same command goes on where it was. Results go to eval/results/bench.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=${NEGKIT_BENCH_VENV:-out/bench/venv}
[ -n "${NEGKIT_BENCH_VENV:-}" ] || [ -e "$venv/complete" ] || {
    sh eval/bench/setup.sh "$venv"
    touch "$venv/complete"
}
target=${CARGO_TARGET_DIR:-target}
case " $* " in
    # What only tells needs no build.
    *" --list "* | *" --help "* | *" -h "*) NEGKIT_BENCH_BIN=${NEGKIT_BENCH_BIN:-$target/release} ;;
esac
if [ -z "${NEGKIT_BENCH_BIN:-}" ]; then
    cargo build --release --package negkit-cli --bin negkit
    cargo build --release --package negkit-parity --example candle_peer --example bench_chart
    NEGKIT_BENCH_BIN=$target/release
fi
export NEGKIT_BENCH_BIN HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
exec "$venv/bin/python" eval/bench/compare.py "$@"
