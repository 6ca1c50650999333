#!/usr/bin/env bash
# Seconds of an epoch by one process and by two, of one thread each, and by one of two threads: the measured points of docs/parallel.md.
# bench/ranks.sh PROGRAM [OPTIONS OF train ..], with a program that was built with the feature mpi, on an idle machine of two cores or more.
set -euo pipefail
program=$1
shift
[ $# -gt 0 ] || set -- --preset quickstart --epochs 3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
measure() {
  local name=$1 threads=$2
  shift 2
  "$@" --offline --threads "$threads" --output "$scratch/$name" >/dev/null 2>&1
  python3 - "$name" "$scratch/$name/metrics.jsonl" <<'PY'
import json, sys
records = [json.loads(line) for line in open(sys.argv[2])]
# The fastest, of training and of test: other work on the machine only adds.
train, test = (min(record[part]["seconds"] for record in records) for part in ("train", "test"))
print(f"{sys.argv[1]:24} {train:8.2f} s training, {test:6.2f} s test; last top-1 error {100 * records[-1]['test']['top1_error']:.2f} %")
PY
}
measure "1 process, 1 thread" 1 "$program" train "$@"
measure "2 processes, 1 thread" 1 mpirun --oversubscribe -n 2 "$program" train "$@"
measure "1 process, 2 threads" 2 "$program" train "$@"
