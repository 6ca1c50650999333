#!/usr/bin/env bash
# All tests, the kernels' through their emulation: the README's command. Arguments go to cargo test.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --workspace --release --features emulation "$@"
