#!/usr/bin/env python3
"""Writes the files of tests/torch/ with real PyTorch: `make_fixture.py [FOLDER]`.

Each is a list of tensors as the published program saves a Hopfield network, here a VGG5 of widths (1, 2, 2, 1) for grey images:
five biases, then four convolutions (C_post, C_pre, 3, 3) and a dense weight (C, H, W, classes). The k-th number of all is
(k * 37 % 101 - 50) / 64, in every format exactly.
"""

import pickle
import sys
from pathlib import Path

import numpy
import torch

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
shapes = [(1,), (2,), (2,), (1,), (10,), (1, 1, 3, 3), (2, 1, 3, 3), (2, 2, 3, 3), (1, 2, 3, 3), (1, 2, 2, 10)]


def tensors():
    start, result = 0, []
    for shape in shapes:
        count = torch.Size(shape).numel()
        numbers = (torch.arange(start, start + count) * 37 % 101 - 50) / 64
        result.append(numbers.reshape(shape))
        start += count
    return result


def transposed(tensor):
    """The same numbers with the first axis the fastest in memory."""
    reversed_axes = tuple(range(tensor.dim()))[::-1]
    return tensor.permute(reversed_axes).contiguous().permute(reversed_axes)


def part_of_larger(tensor):
    """The same numbers behind others in one storage."""
    storage = torch.cat([torch.full((7,), 99.0), tensor.flatten()])
    return storage[7:].view(tensor.shape)


class Damage:
    def __reduce__(self):
        import os

        return os.system, ("touch eqprop-was-here",)


def save(name, value, **options):
    torch.save(value, folder / f"{name}.pt", **options)


def baseline():
    """The published feed-forward VGG5 (vgg.py) with widths (1, 2, 2, 1) for grey images, its statistics those of one batch."""
    torch.manual_seed(0)
    widths = [1, 1, 2, 2, 1]
    stages = []
    for inputs, outputs in zip(widths, widths[1:]):
        convolution = torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        stages.append(torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()))
        stages.append(torch.nn.MaxPool2d(2))
    module = torch.nn.Module()
    module.features = torch.nn.Sequential(*stages)
    module.classifier = torch.nn.Linear(4, 10)
    module.features(torch.rand(4, 1, 32, 32))
    return module


class Layer:
    """As the field's framework has it, here with the maximum at which a `reluclip` layer is clipped."""

    def __init__(self, shape, maximum=None):
        self._shape = shape
        self._state = None
        if maximum is not None:
            self._max = maximum


class ReLUClipLayer(Layer):
    pass


class Parameter:
    def __init__(self, tensor):
        self._shape = tuple(tensor.shape)
        self._state = tensor
        self.name = "Parameter"


class Energy:
    """The object that the framework trains, and that some of its users save as a whole."""

    def __init__(self):
        maxima = [1.5, 2.5, 3.25, 4.75]
        self._layers = [Layer((1, 32, 32)), *(ReLUClipLayer(None, m) for m in maxima), Layer((10,))]
        self._params = [Parameter(t) for t in tensors()]
        # What such objects hold besides: numbers of numpy, methods of their own, sets.
        self._weight_gains = [numpy.float64(0.5)]
        self._minimizer = self.relax
        self._names = {"energy"}

    def relax(self):
        pass


save("energy", Energy())
with open(folder / "energy.pkl", "wb") as file:
    pickle.dump(Energy(), file)
save("wrapped", {"epoch": 3, "model": tensors(), "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}})
save("wrapped_baseline", {"state_dict": {f"module.{k}": v for k, v in baseline().state_dict().items()}, "best": 0.5})
save("module_baseline", baseline())
# A dense network of the framework, whose weights have the shape of the lower layer, then that of the higher one.
dense = [(3,), (10,), (1, 28, 28, 3), (3, 10)]
save("dhn", [torch.arange(torch.Size(s).numel()).reshape(s) % 7 / 8 for s in dense])
save("float32", tensors())
save("parameters", [torch.nn.Parameter(t) for t in tensors()])
save("float64", [t.double() for t in tensors()])
save("float16", [t.half() for t in tensors()])
save("bfloat16", [t.bfloat16() for t in tensors()])
save("strides", [transposed(t) for t in tensors()])
save("offsets", [part_of_larger(t) for t in tensors()])
save("protocol4", tensors(), pickle_protocol=4)
save("legacy", tensors(), _use_new_zipfile_serialization=False)
save("state_dict", torch.nn.Linear(3, 2).state_dict())
save("baseline", baseline().state_dict())
save("module", torch.nn.Linear(3, 2))
save("malicious", [Damage()])
save("malicious_within", [*tensors()[:-1], {"state": [Damage()]}])
save("complex", [t.to(torch.complex64) for t in tensors()])
save("missing_one", tensors()[:-1])
save("wrong_shape", [*tensors()[:-1], torch.zeros(1, 4, 2, 10)])
save("not_finite", [*tensors()[:-1], torch.full((1, 2, 2, 10), float("nan"))])
