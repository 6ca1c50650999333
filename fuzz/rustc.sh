#!/usr/bin/env bash
# What cargo runs in place of rustc for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER): the library and the fuzzer count which
# branches are taken, for libFuzzer to see. Other crates, and build scripts, are as the tests have them.
set -euo pipefail
case " $* " in
  *" --crate-name eqprop_cuda "* | *" --crate-name fuzz "*)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
      -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
      -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Cdebug-assertions=on -Coverflow-checks=on
    ;;
esac
exec "$@"
