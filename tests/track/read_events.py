#!/usr/bin/env python3
"""Reads a run's event files with the tensorboard package and compares every value with metrics.jsonl: RUN_DIR"""

import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import series


def as_float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


accumulator = EventAccumulator(f"{sys.argv[1]}/tensorboard", size_guidance={"scalars": 0})
accumulator.Reload()
found = {
    tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
}
series.compare(sys.argv[1], found, as_float32)
