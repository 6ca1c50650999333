#!/usr/bin/env bash
# Searches, guided by the branches that are taken, for files that a reader panics at, runs out of memory at, never ends with, or refuses
# with a message that nobody can read: ci/fuzz.sh [SECONDS [READER..]], two readers at a time. Without readers it is all of them, a
# minute each: eleven minutes on two cores; CI has time for five seconds each. tests/readers/ is the same with a fixed seed. Needs a
# C++ compiler, for libFuzzer, and no other toolchain than the program's. Files that lead to new branches stay in fuzz/corpus, where
# the next search begins; what is found lies in fuzz/artifacts, is printed, and is tried again with
# EQPROP_READER=NAME target/release/fuzz FILE.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true

# The library once more, its branches counted: not optimised, which takes a third of the time, and what takes time while it runs is in other
# crates. Those are the ones of the tests; cargo keeps what the wrapper makes apart from what rustc alone made.
NVCC= RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc.sh CARGO_INCREMENTAL=0 \
  cargo build --release -p eqprop-cuda-fuzz --config profile.release.package.eqprop-cuda.opt-level=0
fuzz=$(realpath "${CARGO_TARGET_DIR:-target}")/release/fuzz
readers=$("$fuzz" 2>/dev/null)
[ $# -gt 0 ] || set -- $readers

# The readers' files lie in memory where that is possible.
memory=/dev/shm
[ -w $memory ] || memory=${TMPDIR:-/tmp}
scratch=$(mktemp -d -p "$memory")
trap 'rm -rf "$scratch"' EXIT
mkdir -p fuzz/artifacts
search() {
  local reader=$1 log=$scratch/$1.log
  mkdir "$scratch/$reader"
  if TMPDIR=$scratch/$reader EQPROP_READER=$reader EQPROP_CORPUS=fuzz/corpus/$reader "$fuzz" "fuzz/corpus/$reader" \
    -artifact_prefix="fuzz/artifacts/$reader-" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
    >"$log" 2>&1; then
    # "#executions DONE cov: branches ..".
    awk -v reader="$reader" '/DONE/{ printf "%-16s %8d files, %5d branches\n", reader, substr($1, 2), $4 }' "$log"
    return
  fi
  # In one piece: the panic or what libFuzzer says, and the file, which a machine of CI does not keep.
  local found
  found=$(sed -n 's/.*Test unit written to //p' "$log")
  {
    echo "-- $reader: ${found:-nothing was kept}"
    grep -av '^#[0-9]' "$log" | tail -40
    [ -z "$found" ] || echo "echo $(gzip -9c "$found" | base64 -w0) | base64 -d | gunzip >$(basename "$found")"
  } >"$scratch/$reader.found"
  cat "$scratch/$reader.found"
  return 1
}
export -f search
export fuzz scratch seconds
printf '%s\n' "$@" | xargs -P 2 -I{} bash -c 'search {}'
