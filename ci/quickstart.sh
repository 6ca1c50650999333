#!/usr/bin/env bash
# The README's quick start, shortened, with the program that is given: ci/quickstart.sh target/release/eqprop-cuda, or
# ci/quickstart.sh python -m eqprop_cuda
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$@" train --preset quickstart --offline --limit-train 1000 --epochs 1 --output "$scratch/quickstart"
"$@" eval "$scratch/quickstart/best.safetensors" --offline
"$@" plot "$scratch/quickstart" --offline
"$@" check-gradients "$scratch/quickstart" --offline --output "$scratch/quickstart/gradients"
