#!/usr/bin/env python3
"""Reads a run's event files with the tensorboard package and compares every value with metrics.jsonl, the settings with config.toml, and
the histograms with the last checkpoint: RUN_DIR"""

import json
import math
import pathlib
import struct
import sys
import tomllib

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import series


def as_float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


run = pathlib.Path(sys.argv[1])
accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "histograms": 0})
accumulator.Reload()
found = {
    tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
}
series.compare(sys.argv[1], found, as_float32)

# The settings, as TensorBoard's HParams keeps them.
content = accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
shown = {name: getattr(value, value.WhichOneof("kind")) for name, value in settings.items()}
# What a resumed run may change stays as it began.
given = {name: value for name, value in tomllib.loads((run / "config.toml").read_text()).items() if name != "epochs"}
for name, value in given.items():
    assert isinstance(value, list) or shown[name] == value, f"{name}: {shown[name]} instead of {value}"
content = accumulator.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
assert plugin_data_pb2.HParamsPluginData.FromString(content).session_end_info.status == 1

# The distributions: of the last epoch that of the parameters in the last checkpoint.
data = (run / "last.safetensors").read_bytes()
length = int.from_bytes(data[:8], "little")
header = json.loads(data[8 : 8 + length])
tags = accumulator.Tags()["histograms"]
assert len(tags) > 0
for tag in tags:
    entries = accumulator.Histograms(tag)
    histogram = entries[-1].histogram_value
    tensor = header[tag.removeprefix("parameter/")]
    begin, end = (8 + length + offset for offset in tensor["data_offsets"])
    size, code = {"F64": (8, "d"), "F32": (4, "f")}[tensor["dtype"]]
    values = struct.unpack(f"<{(end - begin) // size}{code}", data[begin:end])
    assert (histogram.min, histogram.max, histogram.num) == (min(values), max(values), len(values)), tag
    assert math.isclose(histogram.sum, math.fsum(values), abs_tol=1e-9), tag
    assert sum(histogram.bucket) == len(values) and histogram.bucket_limit[-1] == max(values), tag
    edges = [-math.inf, *histogram.bucket_limit]
    for low, high, count in list(zip(edges, edges[1:], histogram.bucket))[1:-1]:
        slack = 1e-9 * (max(values) - min(values))
        inside = sum(low + slack < v < high - slack for v in values)
        at_most = sum(low - slack <= v <= high + slack for v in values)
        assert inside <= count <= at_most, f"{tag}: {count} from {low} to {high}"
print(f"{len(settings)} settings and {len(tags)} histograms are those of the run")
