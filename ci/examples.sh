#!/usr/bin/env bash
# Runs every program of examples/. Arguments go to cargo: with the features of the tests before, nothing is compiled twice.
set -euo pipefail
cd "$(dirname "$0")/.."
for example in examples/*.rs; do
  name=$(basename "$example" .rs)
  echo "-- $name"
  cargo run --release --quiet --features emulation --example "$name" "$@"
done
