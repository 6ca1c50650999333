#!/usr/bin/env bash
# Builds the wheel, with kernels if NVCC or the path has nvcc, installs it into a fresh environment, and runs the shortened quick
# start both as a command and as a module. The wheel lies in target/wheels. Arguments go to maturin.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python3 -m venv target/wheel-build
target/wheel-build/bin/pip install -q 'maturin>=1.8,<2'
rm -rf target/wheels
target/wheel-build/bin/maturin build --release --locked --out target/wheels "$@"
python3 -m venv --clear target/wheel-test
target/wheel-test/bin/pip install -q --no-index target/wheels/*.whl
cd /
"$root/target/wheel-test/bin/eqprop-cuda" --version
"$root/target/wheel-test/bin/eqprop-cuda" info --preset quickstart
"$root/ci/quickstart.sh" "$root/target/wheel-test/bin/python" -m eqprop_cuda
