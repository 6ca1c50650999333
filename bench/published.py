#!/usr/bin/env python3
"""Trains a network with the published framework's own code, to be run beside ours: seconds and error by epoch.

The framework is fetched by whoever repeats this (git clone https://github.com/rain-neuromorphics/energy-based-learning) and
imported as it is; nothing of it is here. Only its loaders are replaced, so that both programs see the same images in memory and
neither waits for torchvision: idx files, in [0, 1], not augmented, not normalised.

    bench/published.py --framework energy-based-learning --data FOLDER --model dhn-1h --threads 2 --epochs 3
    bench/published.py --framework .. --data FOLDER --model chn32 --channels 16,32,64,64 --limit-train 2000 --limit-test 1000

One line of JSON an epoch: {"epoch", "train_error", "test_error", "train_seconds", "test_seconds"}.
"""

import argparse
import gzip
import json
import pathlib
import sys
import time
import types

import numpy as np
import torch


def idx(folder, name):
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                data = file.read()
            axes = data[3]
            shape = np.frombuffer(data, ">u4", axes, 4)
            return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    sys.exit(f"error: {folder} has no {name} or {name}.gz")


class Images:
    """What the framework's epochs iterate over: batches of images, labels and, in tests, indices."""

    def __init__(self, folder, part, limit, batch, size, with_index, seed):
        x = idx(folder, f"{part}-images-idx3-ubyte")[:limit]
        y = idx(folder, f"{part}-labels-idx1-ubyte")[:limit]
        pad = (size - x.shape[-1]) // 2
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        self.x = torch.tensor(x, dtype=torch.float32).unsqueeze(1) / 255
        self.y = torch.tensor(y.astype(np.int64))
        self.batch, self.with_index = batch, with_index
        self.generator = torch.Generator().manual_seed(seed)
        self.dataset = self.y

    def __iter__(self):
        n = len(self.y)
        order = torch.arange(n) if self.with_index else torch.randperm(n, generator=self.generator)
        for i in order.split(self.batch):
            yield (self.x[i], self.y[i], i) if self.with_index else (self.x[i], self.y[i])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", type=pathlib.Path, required=True, help="a clone of the published framework")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the idx files")
    parser.add_argument("--model", choices=["dhn-1h", "dhn-2h", "dhn-3h", "chn32"], default="dhn-1h")
    parser.add_argument("--channels", default="128,256,512,512", help="of chn32")
    parser.add_argument("--batch-size", type=int, help="default: 16 (dhn), 128 (chn32)")
    parser.add_argument("--limit-train", type=int)
    parser.add_argument("--limit-test", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = arguments()
    if not (args.framework / "training" / "sgd.py").exists():
        sys.exit(f"error: {args.framework} is no clone of the published framework (it has no training/sgd.py)")
    sys.path.insert(0, str(args.framework))
    # Its monitor imports TensorBoard's writer, which is not used here.
    sys.modules.setdefault("torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=None))
    from model.function.cost import SquaredError
    from model.function.network import Network
    from model.hopfield.minimizer import FixedPointMinimizer
    from model.hopfield.network import ConvHopfieldEnergy32, DeepHopfieldEnergy
    from training.epoch import Evaluator, Trainer
    from training.monitor import Optimizer
    from training.sgd import AugmentedFunction, EquilibriumProp
    from training.statistics import ErrorStat

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    # The constants of papers/fast-drn/dhn.py and papers/ebl-algorithms/comparative-study.py.
    if args.model == "chn32":
        channels = [int(c) for c in args.channels.split(",")]
        energy = ConvHopfieldEnergy32(1, 10, *channels, weight_gains=[0.5] * 5)
        batch, size, free, nudged, beta = args.batch_size or 128, 32, 60, 15, 0.25
        rates, momentum, decay = [0.0625, 0.0375, 0.025, 0.02, 0.0125], 0.9, 3e-4
    else:
        hidden = int(args.model[4])
        energy = DeepHopfieldEnergy([(1, 28, 28)] + [(1024,)] * hidden + [(10,)], [0.7] * (hidden + 1))
        free, nudged = {1: (15, 15), 2: (50, 20), 3: (100, 10)}[hidden]
        batch, size, beta, momentum, decay = args.batch_size or 16, 28, 0.2, 0.0, 0.0
        rates = {1: [0.05, 0.05], 2: [0.2, 0.05, 0.01], 3: [0.2, 0.05, 0.01, 0.002]}[hidden]
    energy.set_device("cpu")
    cost = SquaredError(energy.layers()[-1])
    network = Network(energy)

    augmented = AugmentedFunction(energy, cost)
    training = FixedPointMinimizer(augmented, network.free_layers())
    training.num_iterations, training.mode = nudged, "asynchronous"
    estimator = EquilibriumProp(energy.params(), energy.layers(), augmented, cost, training)
    estimator.nudging, estimator.variant = beta, "centered"
    inference = FixedPointMinimizer(energy, network.free_layers())
    inference.num_iterations, inference.mode = free, "asynchronous"
    optimizer = Optimizer(energy, cost, rates + rates, momentum, decay)

    train = Images(args.data, "train", args.limit_train, batch, size, False, args.seed)
    test = Images(args.data, "t10k", args.limit_test, batch, size, True, args.seed)
    trainer = Trainer(network, cost, energy.params(), train, estimator, optimizer, inference)
    evaluator = Evaluator(network, cost, test, inference)
    for epoch in (trainer, evaluator):
        epoch.add_statistic(ErrorStat(cost))

    for number in range(1, args.epochs + 1):
        line = {"epoch": number}
        for name, epoch in (("train", trainer), ("test", evaluator)):
            start = time.perf_counter()
            epoch.run()
            line[f"{name}_seconds"] = round(time.perf_counter() - start, 2)
            line[f"{name}_error"] = epoch._stats[0][0].get()
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
