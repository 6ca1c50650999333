"""The series that a run folder must have, from its metrics.jsonl: written apart from src/track/series.rs on purpose."""

import json
import pathlib
import re

# Layers above the input, and the number of weight tensors, the last of which is dense. The last layer is the output, which has no bounds to saturate at.
NETWORKS = {
    "hopfieldresnet13": (["h1a", "h1b", "h2a", "h2b", "h3a", "h3b", "h4a", "h4b", "output"], 13),
    "vgg5": (["h1", "h2", "h3", "h4", "output"], 5),
}
SINGLE = [
    "energy", "cost", "top1_error", "top5_error", "images_per_second", "seconds", "free_iterations", "smallest_omega",
    "eased_phases",
]  # fmt: skip


def of_epoch(record, layers, tensors):
    """{series: value}"""

    def each(series, names, values, end):
        assert len(names) == len(values), f"{series}: {len(values)} values for {names}"
        return {f"{series}/{name}{end}": value for name, value in zip(names, values)}

    values = each("learning_rate", tensors, record["learning_rates"], "")
    values |= each("gradient_norm", tensors, record["train"]["gradient_norms"], "/train")
    values["peak_memory_mib"] = record["peak_memory_mib"]
    values["nudged_iterations/train"] = record["train"]["nudged_iterations"]
    values["nudged_cut_off/train"] = record["train"].get("nudged_cut_off", 0.0)
    for part in ["train", "test"]:
        measures = record[part]
        values |= {f"{name}/{part}": measures[name] for name in SINGLE}
        values[f"free_cut_off/{part}"] = measures.get("free_cut_off", 0.0)
        values |= each("state_norm", layers, measures["state_norms"], f"/{part}")
        values |= each("saturation", layers[:-1], measures["saturations"], f"/{part}")
    return values


def published(record, layers, weights):
    """The same under the names of the published program, of a run with --published-series."""
    tensors = [f"Bias_{l}" for l in range(len(layers))]
    tensors += [f"ConvWeight_{e}" for e in range(weights - 1)] + ["DenseWeight_0"]
    values = {}
    for part in ["train", "test"]:
        measures = record[part]
        values[f"Energy/{part}"] = measures["energy"]
        values[f"Cost/{part}"] = measures["cost"]
        values[f"Error/{part}"] = 100 * measures["top1_error"]
        values[f"Top5Error/{part}"] = 100 * measures["top5_error"]
        assert len(measures["mean_abs_states"]) == len(measures["zero_states"]) == len(layers) + 1
        for layer, (mean, zeros) in enumerate(zip(measures["mean_abs_states"], measures["zero_states"])):
            values[f"Norm/{part}_Layer_{layer}"] = mean
            values[f"Saturation/{part}_Layer_{layer}"] = 100 * zeros
    gradients = record["train"]["mean_abs_gradients"]
    assert len(gradients) == len(tensors)
    return values | {f"Gradient/train_{name}": value for name, value in zip(tensors, gradients)}


def compare(run, found, rounded):
    """Fails unless `found`, {series: [(epoch, value)]}, is what the run recorded, each value `rounded`."""
    run = pathlib.Path(run)
    network = re.search('^network = "(.*)"', (run / "config.toml").read_text(), re.MULTILINE)
    layers, weights = NETWORKS[network[1]]
    tensors = [f"bias.{l + 1}" for l in range(len(layers))] + [f"weight.{e}" for e in range(weights)]
    expected = {}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        values = of_epoch(record, layers, tensors)
        if "mean_abs_states" in record["train"]:
            values |= published(record, layers, weights)
        for name, value in values.items():
            expected.setdefault(name, []).append((record["epoch"], rounded(value)))
    assert expected, f"{run} recorded nothing"
    for name in sorted(set(found) | set(expected)):
        got, wanted = found.get(name), expected.get(name)
        assert got == wanted, f"{name}: found {got}, expected {wanted}"
    print(f"{len(expected)} series of {len(records)} epochs are equal to metrics.jsonl")
