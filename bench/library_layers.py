#!/usr/bin/env python3
"""The products of each edge by the vendor's libraries, through PyTorch: cuDNN's convolutions and cuBLAS's matrix products on a
GPU, oneDNN's on a CPU. `cargo bench --bench kernels -- --compare` runs it on the shapes that it has just measured.

Of each edge `y = conv(x)`: up (forward), down (the transposed convolution, which brings `y` back to `x`) and weight (its
gradient); of the dense head the same three as matrix products. In channels_last, with cuDNN's autotuner on. A relaxation step
needs all edges of a layer at once, and then an elementwise kernel: the sums per layer are the libraries' floor for it, without
that kernel.

    library_layers.py --network vgg5 --batch 128 --device cuda --dtype fp16

Needs torch.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from torch.nn import grad

from pytorch_step import NETWORKS

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def seconds(work, repeats, cuda):
    """Of one call, over `repeats` calls after three for warming up."""
    sync = torch.cuda.synchronize if cuda else lambda: None
    for _ in range(3):
        work()
    sync()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    sync()
    return (time.perf_counter() - start) / repeats


def products(name, channels, args):
    """(edge, product, layer whose relaxation step it is a part of, shape, work, operations)"""
    spec = NETWORKS[name]
    widths = [args.inputs] + [channels[w] for w in spec["widths"]]
    n, last = args.batch, len(spec["widths"])
    tensor = lambda *shape: torch.randn(*shape, device=args.device).to(DTYPES[args.dtype])
    image = lambda *shape: tensor(*shape).contiguous(memory_format=torch.channels_last)
    for e, (pre, post, kernel, stride) in enumerate(spec["edges"]):
        side, padding = spec["sides"][pre], kernel // 2
        out = (side + 2 * padding - kernel) // stride + 1
        x, y = image(n, widths[pre], side, side), image(n, widths[post], out, out)
        w = image(widths[post], widths[pre], kernel, kernel)
        operations = 2 * n * out * out * widths[post] * widths[pre] * kernel * kernel
        shape = f"{widths[pre]}x{side}x{side} -> {widths[post]}x{out}x{out} k{kernel}"
        at = dict(stride=stride, padding=padding)
        # The input's edges are computed once per batch, not in every step.
        yield e, "up", post if pre != 0 else None, shape, lambda: F.conv2d(x, w, **at), operations
        if pre != 0:
            yield e, "down", pre, shape, lambda: grad.conv2d_input(x.shape, w, y, **at), operations
        yield e, "weight", None, shape, lambda: grad.conv2d_weight(x, w.shape, y, **at), operations
    units = widths[-1] * spec["sides"][-1] ** 2
    x, y, w = tensor(n, units), tensor(n, args.classes), tensor(units, args.classes)
    e, shape, operations = len(spec["edges"]), f"{units} -> {args.classes}", 2 * n * units * args.classes
    yield e, "up", last + 1, shape, lambda: x @ w, operations
    yield e, "down", last, shape, lambda: y @ w.T, operations
    yield e, "weight", None, shape, lambda: x.T @ y, operations


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(NETWORKS), required=True)
    parser.add_argument("--channels", default="128,256,512,512")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--inputs", type=int, default=3)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    torch.backends.cudnn.benchmark = True
    # Plain fp32, as our fp32 kernels: not tf32.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    machine = torch.cuda.get_device_name(args.device) if cuda else f"cpu, {torch.get_num_threads()} threads"
    library = f"cuDNN {torch.backends.cudnn.version()}" if cuda else "oneDNN"
    print(f"\n{args.network} by the libraries: {library}, torch {torch.__version__}, {machine}, {args.dtype}, batch {args.batch}")
    print(f"{'edge':6} {'product':8} {'shape':30} {'us':>10} {'TFLOP/s':>9}")
    layers = {}
    with torch.no_grad():
        for e, product, layer, shape, work, operations in products(args.network, list(map(int, args.channels.split(","))), args):
            taken = seconds(work, args.repeats, cuda)
            print(f"{e:<6} {product:8} {shape:30} {taken * 1e6:10.1f} {operations / taken / 1e12:9.2f}")
            if layer is not None:
                layers[layer] = layers.get(layer, 0) + taken
    print("relaxation step of a layer, all its products: " +
          ", ".join(f"layer {l} {layers[l] * 1e6:.1f} us" for l in sorted(layers)))


if __name__ == "__main__":
    main()
