#!/usr/bin/env python3
"""A model of a training step of the full-width HopfieldResNet13 over 1 to 64 GPUs: an estimate, no measurement.

A layer's update is a matrix product cut into tiles of 128 pixels by 128 channels, and one launch updates all layers of a colour: the longest
tiles first, each on the multiprocessor that is free next. Small shares of a batch have fewer tiles than there are multiprocessors, and lose. The all-reduce is a ring: 2 (n - 1) / n of the gradient's bytes over the slowest link, and a latency for
each of its steps. Every constant is below, with its source; --link, --batch and --rate change them.
"""

import argparse
import heapq
import math

# (name, channels, side, [(channels from, kernel)]): the edges into each relaxing layer, as `eqprop-cuda info --preset fast-cifar10` prints them.
LAYERS = [
    ("h1a", 128, 32, [(3, 3)]),
    ("h1b", 128, 16, [(128, 3), (3, 1)]),
    ("h2a", 256, 16, [(128, 3)]),
    ("h2b", 256, 8, [(128, 1), (256, 3)]),
    ("h3a", 512, 8, [(256, 3)]),
    ("h3b", 512, 4, [(256, 1), (512, 3)]),
    ("h4a", 512, 4, [(512, 3)]),
    ("h4b", 512, 2, [(512, 1), (512, 3)]),
    ("output", 10, 1, [(512 * 4, 1)]),
]
# Each edge once more, towards the layer that it comes from (index into LAYERS), with the side of the layer that it comes from halved where
# the edge has stride 2: a pixel then meets a quarter of the taps on average.
BACK = {
    "h1a": [(128, 9 / 4)],
    "h1b": [(256, 9), (256, 1 / 4)],
    "h2a": [(256, 9 / 4)],
    "h2b": [(512, 9), (512, 1 / 4)],
    "h3a": [(512, 9 / 4)],
    "h3b": [(512, 9), (512, 1 / 4)],
    "h4a": [(512, 9 / 4)],
    "h4b": [(10, 1)],
    "output": [],
}
MULTIPROCESSORS = 132  # H100 SXM data sheet
DENSE = 790e12  # FLOP/s of dense 16-bit products; what others measured on such a card (data sheet: 989e12)
LAUNCH = 3e-6  # seconds from one kernel of a recorded graph to the next; a usual figure, not measured here
ITERATIONS = (40, 20)  # of fast-cifar10 with two nudged phases; as the preset is, phases end by tolerance, which no model knows beforehand
# Layers of a colour share no edge: h1b, h2a and h2b are joined by three, so there are three colours.
COLOURS = [["h1a", "h2b", "h4a", "output"], ["h1b", "h3a", "h4b"], ["h2a", "h3b"]]
TILE = 128

LINKS = {
    # name: (bytes/s of the ring within a machine, seconds a ring step), and the same between machines of 8 GPUs
    "nvlink+400g": ((350e9, 5e-6), (45e9, 10e-6)),  # fourth-generation NVLink; one 400 Gb/s adapter a GPU
    "pcie+400g": ((20e9, 8e-6), (20e9, 12e-6)),  # PCIe 5 through the host; the adapter behind it
    "pcie+100g": ((20e9, 8e-6), (11e9, 15e-6)),  # one 100 Gb/s adapter a machine, shared by nothing else
}
MACHINE = 8


def parameters():
    return sum(c * (sum(k * k * f for f, k in edges) + 1) for _, c, _, edges in LAYERS)


def step(images, rate):
    """Seconds that one GPU takes for its images."""
    per_multiprocessor = DENSE * rate / MULTIPROCESSORS

    def sweep(states):
        seconds = 0.0
        for colour in COLOURS:
            tiles = []
            for name, channels, side, edges in LAYERS:
                if name in colour:
                    depth = sum(f * k * k for f, k in edges) + sum(c * taps for c, taps in BACK[name])
                    count = math.ceil(images * side * side / TILE) * math.ceil(channels / TILE)
                    tiles += [states * 2 * TILE * TILE * depth / per_multiprocessor] * count
            free_at = [0.0] * MULTIPROCESSORS
            for tile in sorted(tiles, reverse=True):
                heapq.heapreplace(free_at, free_at[0] + tile)
            seconds += max(free_at) + LAUNCH
        return seconds

    free, nudged = ITERATIONS
    # Sum and difference: two products an update. The weight gradient: two products over all pixels, once.
    return free * sweep(1) + nudged * sweep(2) + sweep(2)


def all_reduce(ranks, link):
    if ranks == 1:
        return 0.0
    within, between = LINKS[link]
    bandwidth, latency = within if ranks <= MACHINE else (min(within[0], between[0]), between[1])
    return 2 * (ranks - 1) / ranks * 4 * parameters() / bandwidth + 2 * (ranks - 1) * latency


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--link", choices=LINKS, default="nvlink+400g")
    options.add_argument("--batch", type=int, default=128, help="global batch of the strong scaling, batch a GPU of the weak one")
    options.add_argument("--rate", type=float, default=0.55, help="share of DENSE that a full wave of tiles reaches (mma.sync ends at 0.66)")
    given = options.parse_args()
    print(f"{parameters():,} parameters, {4e-6 * parameters():.0f} MB a sum; {given.link}; a full wave at {given.rate:.0%} of {DENSE / 1e12:.0f} TFLOP/s")
    for title, images in [
        ("strong scaling", lambda n: math.ceil(given.batch / n)),
        ("weak scaling", lambda n: given.batch),
    ]:
        print(f"\n{title}\n| GPUs | images a GPU | relaxing, ms | all-reduce, ms | images/s | efficiency |\n|---|---|---|---|---|---|")
        alone = given.batch / step(given.batch, given.rate)
        for ranks in [1, 2, 4, 8, 16, 32, 64]:
            mine = images(ranks)
            relaxing, summing = step(mine, given.rate), all_reduce(ranks, given.link)
            total = given.batch if title == "strong scaling" else mine * ranks
            speed = total / (relaxing + summing)
            print(f"| {ranks} | {mine} | {1e3 * relaxing:.1f} | {1e3 * summing:.2f} | {speed:,.0f} | {speed / alone / ranks:.0%} |")


if __name__ == "__main__":
    main()
