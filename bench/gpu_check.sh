#!/usr/bin/env bash
# Everything that only a GPU can show, from binaries built elsewhere: parity, memory checking, both benchmarks, and the
# PyTorch opponents. Ends with a short table. Exit status 1 when a check failed.
#
#   bench/gpu_check.sh DIR        DIR holds what `cargo build --release` and `cargo bench --no-run` made: eqprop-cuda, and
#                                 the benchmarks as kernels and step; default: what is found under target/release
#   OUT=folder                    where the logs go (default: a temporary folder)
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${1:-target/release}
out=${OUT:-$(mktemp -d)}
mkdir -p "$out"
failed=0
declare -a table

# The newest executable of a name: cargo puts benchmarks into deps/ with a hash.
find_binary() {
  if [ -x "$bin/$1" ]; then echo "$bin/$1"; return; fi
  find "$bin/deps" -maxdepth 1 -type f -executable -name "$1-*" -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -1 | cut -d' ' -f2
}

# run NAME COMMAND..: logs, remembers the verdict, and goes on.
run() {
  local name=$1 status=0 start=$SECONDS
  shift
  echo "== $name"
  "$@" >"$out/$name.log" 2>&1 || status=$?
  tail -n 40 "$out/$name.log"
  if [ "$status" = 0 ] && grep -q "nothing to measure" "$out/$name.log"; then table+=("$name|skipped|no CUDA device")
  elif [ "$status" = 0 ]; then table+=("$name|passed|$((SECONDS - start)) s"); else
    table+=("$name|FAILED ($status)|$((SECONDS - start)) s")
    failed=1
  fi
}

skip() { echo "== $1: skipped, $2"; table+=("$1|skipped|$2"); }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "nvidia-smi was not found"
program=$(find_binary eqprop-cuda)
kernels=$(find_binary kernels)
step=$(find_binary step)
[ -n "$program" ] || { echo "gpu_check.sh: no eqprop-cuda in $bin: build it, or name the folder" >&2; exit 2; }

for precision in fp32 fp16; do
  run "parity-$precision" "$program" parity tests/golden/*.safetensors --device cuda --precision "$precision"
done
# The kernel suites, if they were built (`cargo test --release --features emulation --no-run`): random networks, stopping,
# precision. All but the mutations, which only the emulation has.
tests=$(find_binary kernel_suites)
for suite in golden phases half precision stopping feedforward batch_norm; do
  if [ -n "$tests" ]; then run "suite-$suite" env EQPROP_TEST_DEVICE=cuda "$tests" "$suite::"; fi
done
# Where phases stop, once more without the loop inside a graph.
if [ -n "$tests" ]; then run suite-stopping-without-loops env EQPROP_TEST_DEVICE=cuda EQPROP_WHILE=off "$tests" "stopping::"; fi
# The same bits with and without it: a tolerance that phases reach, and one that they do not.
loops() {
  local tolerance loop
  for tolerance in 0.03 1e-12; do
    for loop in on off; do
      EQPROP_WHILE=$loop "$program" train --dataset FashionMNIST-mini --offline --network vgg5 --channels 8,8,8,8 --limit-train 40 \
        --limit-test 20 --batch-size 20 --epochs 1 --num-iterations-inference 50 --num-iterations-training 20 \
        --tolerance $tolerance --device cuda --output "$out/loop-$tolerance-$loop" || return 1
      "$program" export "$out/loop-$tolerance-$loop" "$out/loop-$tolerance-$loop.safetensors" || return 1
    done
    cmp "$out/loop-$tolerance-on.safetensors" "$out/loop-$tolerance-off.safetensors" || return 1
  done
}
run loops loops
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck; do
    run "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$program" parity tests/golden/resnet13_relu6_mse.safetensors --device cuda --precision fp16
    run "sanitizer-$tool-backprop" compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$program" parity tests/golden/backprop_vgg5.safetensors --device cuda --precision fp16
  done
else
  skip sanitizer "compute-sanitizer was not found"
fi
if [ -n "$kernels" ]; then run bench-kernels "$kernels" --estimate --compare; else skip bench-kernels "not built: cargo bench --no-run"; fi
if [ -n "$step" ]; then run bench-step "$step"; else skip bench-step "not built: cargo bench --no-run"; fi
if python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  run pytorch python3 bench/pytorch_step.py --device cuda
  tuned=(--dtype fp16 --tuned --channels-last --compile)
  run pytorch-tuned python3 bench/pytorch_step.py --device cuda "${tuned[@]}"
  feedforward=(python3 bench/pytorch_feedforward.py --device cuda)
  run pytorch-feedforward-check "${feedforward[@]}" --dtype fp32 --check tests/golden/backprop_*.safetensors
  run pytorch-feedforward "${feedforward[@]}" --dtype fp16 --channels-last
  run pytorch-feedforward-compiled "${feedforward[@]}" --dtype fp16 --channels-last --compile
else
  skip pytorch "no PyTorch with CUDA"
fi

echo
printf '%s\n' "${table[@]}" | awk -F'|' '{ printf "%-30s %-14s %s\n", $1, $2, $3 }'
echo "logs: $out"
exit "$failed"
