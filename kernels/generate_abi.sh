#!/bin/sh
# Regenerates src/cuda/machine/abi.rs from abi.h. Needs bindgen (cargo install bindgen-cli) and libclang (Debian's
# libclang-dev, or PyPI's libclang with LIBCLANG_PATH set to its clang/native).
cd "$(dirname "$0")/.." || exit 1
bindgen kernels/abi.h --allowlist-file '.*abi.h' --with-derive-default \
    --raw-line '//! Structs shared with the kernels: generated from `kernels/abi.h` by `kernels/generate_abi.sh`. Do not edit.' \
    --raw-line '#![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]' -- -std=c11
