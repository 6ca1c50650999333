#!/usr/bin/env bash
# Runs the Python example of docs/interchange.md on an export, then brings its model.pt back: run_example.sh PYTHON EQPROP_CUDA
# PYTHON has torch and safetensors.
set -euo pipefail
python=$(realpath -s "$1") program=$(realpath "$2")
root=$(realpath "$(dirname "$0")/../..")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

awk '/^```python$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$root/docs/interchange.md" > example.py
[ "$(wc -l < example.py)" -ge 10 ] || { echo "docs/interchange.md has no example"; exit 1; }

# What is exported came from a file that PyTorch wrote.
"$program" import "$root/tests/torch/strides.pt" --dataset FashionMNIST-mini --output run
"$program" export run exported.safetensors
"$python" example.py
"$program" import model.pt --dataset FashionMNIST-mini --output back
"$program" export back back.safetensors
cmp exported.safetensors back.safetensors
"$python" - <<'PY'
import torch
from safetensors.torch import load_file

first, again = load_file("exported.safetensors"), load_file("again.safetensors")
assert first.keys() == again.keys() and len(first) == 10
assert all(torch.equal(first[name], again[name]) for name in first)
PY
echo "the example's model.pt and again.safetensors hold what was exported"
