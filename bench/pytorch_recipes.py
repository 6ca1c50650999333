#!/usr/bin/env python3
"""Feed-forward HopfieldResNet13 in PyTorch with one ingredient of the published baseline after another replaced by that of equilibrium
propagation: is it the learning rule, or the recipe, that sets the two apart on few images?

    pytorch_recipes.py --data-dir /usr/share/datasets/fashion-mnist --seeds 1 2 3

Fashion-MNIST, the first 2,000 training and 1,000 test images, padded to 32x32, no augmentation; channels 8,16,32,32, batches of 50. Prints the
test error of every epoch, in per cent. Needs torch and numpy.
"""

import argparse
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

from published import idx
from pytorch_step import NETWORKS

SPEC = NETWORKS["hopfieldresnet13"]
# Gains of the presets for equilibrium propagation; a weight is uniform in +-gain / sqrt(fan-in).
GAINS = (.6, .6, .7, .6, .7, .6, .6, .7, .6, .6, .7, .6, .8)
BATCH = 50

# Batch normalisation, clip, initial gains (or PyTorch's own), loss, optimizer and learning rate.
RECIPES = {
    "baseline (as published)": (True, None, False, "CE", "adam", 1e-3),
    "baseline, SGD": (True, None, False, "CE", "sgd", .03),
    "baseline, SGD, MSE": (True, None, False, "MSE", "sgd", .03),
    "no normalisation": (False, None, False, "CE", "adam", 1e-3),
    "no normalisation, relu6, MSE": (False, 6, False, "MSE", "adam", 1e-3),
    "the recipe of equilibrium propagation": (False, 6, True, "MSE", "sgd", .03),
    "the same, rate 0.06": (False, 6, True, "MSE", "sgd", .06),
}


class Network(nn.Module):
    def __init__(self, channels, has_norm, clip, has_gains):
        super().__init__()
        widths = [1] + [channels[w] for w in SPEC["widths"]]
        self.last, self.clip = len(SPEC["widths"]), clip
        self.edges = nn.ModuleDict()
        for (pre, post, kernel, stride), gain in zip(SPEC["edges"], GAINS):
            conv = nn.Conv2d(widths[pre], widths[post], kernel, stride, kernel // 2)
            if has_gains:
                uniform(conv.weight, gain, widths[pre] * kernel ** 2)
            norm = nn.BatchNorm2d(widths[post]) if has_norm else nn.Identity()
            self.edges[f"{pre}_{post}"] = nn.Sequential(conv, norm)
        self.head = nn.Linear(widths[-1] * SPEC["sides"][-1] ** 2, 10)
        if has_gains:
            uniform(self.head.weight, GAINS[-1], self.head.in_features)

    def forward(self, x):
        states = {0: x}
        for post in range(1, self.last + 1):
            into = [name.split("_")[0] for name in self.edges if name.endswith(f"_{post}")]
            z = sum(self.edges[f"{pre}_{post}"](states[int(pre)]) for pre in into)
            states[post] = z.clamp(0, self.clip)
        return self.head(states[self.last].flatten(1))


def uniform(weight, gain, fan_in):
    nn.init.uniform_(weight, -gain / fan_in ** .5, gain / fan_in ** .5)


def read(folder, kind, count):
    """The first images, normalised, and their labels."""
    images = torch.tensor(idx(folder, f"{kind}-images-idx3-ubyte")[:count])[:, None].float() / 255
    labels = torch.tensor(idx(folder, f"{kind}-labels-idx1-ubyte")[:count]).long()
    return (F.pad(images, (2, 2, 2, 2)) - .2860) / .3530, labels


def train(recipe, seed, args, images, test):
    has_norm, clip, has_gains, loss_name, optimizer_name, rate = recipe
    torch.manual_seed(seed)
    network = Network(args.channels, has_norm, clip, has_gains)
    if optimizer_name == "adam":
        optimizer, schedule = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=2.5e-4), None
    else:
        optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=.9, weight_decay=3.5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    errors = []
    for _ in range(args.epochs):
        network.train()
        for batch in torch.randperm(len(images[0])).split(BATCH):
            x, labels = images[0][batch], images[1][batch]
            if loss_name == "CE":
                loss = F.cross_entropy(network(x), labels)
            else:
                loss = .5 * (network(x) - F.one_hot(labels, 10).float()).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if schedule:
            schedule.step()
        network.eval()
        with torch.inference_mode():
            errors.append(100 * (network(test[0]).argmax(1) != test[1]).float().mean().item())
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=pathlib.Path, required=True, help="folder of the four files of Fashion-MNIST, compressed or not")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--channels", type=int, nargs=4, default=[8, 16, 32, 32])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images, test = read(args.data_dir, "train", 2000), read(args.data_dir, "t10k", 1000)
    for name, recipe in RECIPES.items():
        for seed in args.seeds:
            errors = train(recipe, seed, args, images, test)
            print(f"{name}, seed {seed}:", *(f"{error:.1f}" for error in errors), flush=True)


if __name__ == "__main__":
    main()
