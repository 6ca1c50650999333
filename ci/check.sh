#!/usr/bin/env bash
# What a change must be before it is tested: formatted, without warnings, documented, without circles of imports, on dependencies under known terms.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --check
# The interpreter's part compiles without nvcc, too; only running it needs what nvcc made.
cargo clippy --release --workspace --all-targets --features emulation,interpreter -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --quiet --features emulation
ci/imports.py
ci/notices.py --check
if cargo deny --version >/dev/null 2>&1; then
  cargo deny check bans licenses sources
  # The database of advisories comes over the network.
  if cargo deny fetch db >/dev/null 2>&1; then cargo deny check advisories; else echo "skipped: the advisories cannot be had"; fi
else
  echo "skipped: cargo-deny is not installed; ci/notices.py checked licences and sources, nobody the advisories"
fi
