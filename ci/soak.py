#!/usr/bin/env python3
"""A long run costs what a short one costs: memory and time of an epoch stay constant over thousands of them.

ci/soak.py PROGRAM [EPOCHS], 2,000 if not said: trains a tiny network by each algorithm and reads metrics.jsonl.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

TINY = (
    "--dataset FashionMNIST-mini --offline --channels 2,2,4,4 --limit-train 32 --limit-test 16 --batch-size 16 --threads 1 "
    "--learning-rate-schedule constant"
).split()
RULES = {
    "ep": "--num-iterations-inference 3 --num-iterations-training 2 --learning-rate 1e-4".split(),
    "backprop": "--algorithm backprop --learning-rate 1e-5".split(),
}
# Of the peak after the first tenth, in MiB: what an allocator may still add.
GROWTH = 4.0
# Of the time of the fastest epoch, last tenth over second tenth: other work on the machine comes and goes.
SLOWER = 1.5


def soak(program, rule, options, epochs):
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        command = [program, "train", *TINY, *options, "--epochs", str(epochs), "--output", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == epochs, f"{len(records)} epochs"
    tenth = epochs // 10
    peaks = [record["peak_memory_mib"] for record in records]
    seconds = [record["train"]["seconds"] + record["test"]["seconds"] for record in records]
    early, late = (min(part) for part in (seconds[tenth : 2 * tenth], seconds[-tenth:]))
    print(
        f"{rule}: {epochs} epochs; peak memory {peaks[tenth]:.1f} MiB after {tenth}, {peaks[-1]:.1f} MiB at the end; "
        f"the fastest epoch takes {1e3 * early:.2f} ms early, {1e3 * late:.2f} ms late",
        flush=True,
    )
    return peaks[-1] - peaks[tenth] <= GROWTH and late <= SLOWER * early


def main():
    program = sys.argv[1]
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    # Once more where other work on the machine could have been the reason: what grows does so again.
    constant = [soak(program, rule, options, epochs) or soak(program, rule, options, epochs) for rule, options in RULES.items()]
    sys.exit(0 if all(constant) else "memory or time grew")


if __name__ == "__main__":
    main()
