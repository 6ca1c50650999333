# The errands by name; `just` lists them. CI runs the same scripts (.ci/run).

default:
    @just --list

# formatting, lints, documentation, licences
check:
    ci/check.sh

# all tests, the kernels through their emulation; arguments go to cargo test
test *arguments:
    ci/test.sh {{arguments}}

# the kernels' tests alone, and deliberate defects in them
kernels:
    ci/test.sh --test abi --test kernel_suites --test mutations

# what nvcc makes of the kernels, interpreted: training steps, defects, suites; needs nvcc
interpreter *arguments:
    cargo test --release --features interpreter --test interpreter --test kernel_suites {{arguments}}

# the published implementation's numbers, in fp64 and fp32
golden:
    cargo run --release -- parity tests/golden/*.safetensors --precision fp64
    cargo run --release -- parity tests/golden/*.safetensors --precision fp32

# training steps on this CPU
bench:
    cargo bench --bench cpu

# a Hopfield network learns Fashion-MNIST in a minute and a half
quickstart:
    cargo run --release -- train --preset quickstart

# the programs of examples/
examples:
    ci/examples.sh

# a wheel in target/wheels, tried in a fresh environment
wheel:
    ci/wheel.sh

# thousands of tiny epochs: memory and time must stay constant
soak *arguments:
    cargo build --release
    ci/soak.py target/release/eqprop-cuda {{arguments}}

# files that a reader cannot bear, searched with libFuzzer: a minute for each reader; arguments are seconds and readers
fuzz *arguments:
    ci/fuzz.sh {{arguments}}

# THIRD-PARTY-NOTICES.txt, after a change of Cargo.lock
notices:
    ci/notices.py

# everything that CI does
ci:
    .ci/run
