#!/usr/bin/env python3
"""Reads a run's offline W&B files with the wandb package's messages and compares every value with metrics.jsonl: RUN_DIR"""

import glob
import json
import pathlib
import sys

from wandb.proto import wandb_internal_pb2

import series

HEADER, BLOCK = 7, 32768


def messages(path):
    """The format of LevelDB's log: checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), data."""
    data = pathlib.Path(path).read_bytes()
    assert data[:4] == b":W&B", f"{path} is no W&B file"
    at, message = HEADER, b""
    while at + 7 <= len(data):
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        left = BLOCK - at % BLOCK
        if left < 7 or kind == 0:
            at += left
            continue
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield message
            message = b""


# One file per session, all of the same run: names begin with the time.
points, runs = {}, set()
for path in sorted(glob.glob(f"{sys.argv[1]}/wandb/offline-run-*/*.wandb")):
    for message in messages(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(message)
        if record.HasField("run"):
            runs.add(record.run.run_id)
        items = record.history.item if record.HasField("history") else []
        values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
        epoch = values.pop("_step", None)
        for name, value in values.items():
            if not name.startswith("_"):
                points.setdefault(name, {})[epoch] = value
assert len(runs) == 1, f"sessions belong to several runs: {runs}"
found = {name: sorted(values.items()) for name, values in points.items()}
series.compare(sys.argv[1], found, float)
