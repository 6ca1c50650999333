#!/usr/bin/env bash
# Searches for files that a reader cannot bear, a minute each: ci/fuzz.sh [SECONDS [READER..]]. Needs cargo-fuzz (`cargo install
# cargo-fuzz`) and a C++ compiler; the stable toolchain will do, for no sanitizer is asked for: what is sought are panics, overflows,
# hangs and memory. CI has no time for the instrumented build; tests/readers/, which is part of it, is the same with a fixed seed. What
# is found lies in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//')
# Whole files to begin with.
EQPROP_CORPUS=$PWD/fuzz/corpus cargo test --release --features emulation --test readers what_is_whole_is_read
export NVCC=
cargo fuzz build --sanitizer none
for reader; do
  echo "-- $reader"
  cargo fuzz run --sanitizer none "$reader" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
done
