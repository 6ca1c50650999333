#!/usr/bin/env python3
"""One training step of the feed-forward networks in PyTorch: the opponent of `cargo bench --bench step -- --algorithm backprop`.

Written from the equations (src/backprop/mod.rs), not from the published code, with what PyTorch offers: cuDNN's convolutions
and batch normalisation, fused optimizers, and by option channels_last, autocast to 16 bits (with a GradScaler in fp16) and
torch.compile. Loading images and metrics are not in the step, as in ours.

    pytorch_feedforward.py --network resnet13 --batch 128 --device cuda --dtype fp16 --channels-last --compile
    pytorch_feedforward.py --check tests/golden/backprop_resnet13.safetensors tests/golden/backprop_vgg5.safetensors

Needs torch, and safetensors for --check. Prints one JSON object per network.
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from pytorch_step import NETWORKS, load_golden

OPTIMIZERS = {"resnet13": {"optimizer": "adam", "lr": 1e-3, "weight_decay": 2.5e-4},
              "vgg5": {"optimizer": "sgd-nesterov", "lr": .1, "momentum": .9, "weight_decay": 5e-4}}
# What autocast computes in. fp32 and fp64 go without it.
AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


class FeedForward(nn.Module):
    """`a_post = relu(sum of BN(conv(a_pre)))`, max-pooled in vgg5; a linear head on the flattened last layer."""

    def __init__(self, name, channels, inputs, classes):
        super().__init__()
        spec = NETWORKS["hopfieldresnet13" if name == "resnet13" else name]
        self.edges, self.pooled, self.last = spec["edges"], spec["pooled"], len(spec["widths"])
        widths = [inputs] + [channels[w] for w in spec["widths"]]
        head = nn.Linear(widths[-1] * spec["sides"][-1] ** 2, classes)

        def block(pre, post, kernel, stride):
            conv = nn.Conv2d(widths[pre], widths[post], kernel, stride, kernel // 2, bias=not self.pooled)
            return nn.Sequential(conv, nn.BatchNorm2d(widths[post]))

        # Named as in the golden files.
        if self.pooled:
            self.features = nn.ModuleDict({str(2 * (edge[1] - 1)): block(*edge) for edge in self.edges})
            self.classifier = head
        else:
            self.layers = nn.ModuleDict({f"{edge[0]}_{edge[1]}": block(*edge) for edge in self.edges})
            self.layers[f"{self.last}_{self.last + 1}"] = head

    def forward(self, x):
        if self.pooled:
            for block in self.features.values():
                x = F.max_pool2d(F.relu(block(x)), 2)
            return self.classifier(x.flatten(1))
        states = {0: x}
        for post in range(1, self.last + 1):
            into = [edge[0] for edge in self.edges if edge[1] == post]
            states[post] = F.relu(sum(self.layers[f"{pre}_{post}"](states[pre]) for pre in into))
        return self.layers[f"{self.last}_{self.last + 1}"](states[self.last].flatten(1))


def make_optimizer(parameters, settings, cuda):
    if settings["optimizer"] == "adam":
        return torch.optim.Adam(parameters, lr=settings["lr"], weight_decay=settings["weight_decay"], fused=cuda)
    return torch.optim.SGD(parameters, lr=settings["lr"], momentum=settings["momentum"], nesterov=True,
                           weight_decay=settings["weight_decay"], fused=cuda)


class Trainer:
    def __init__(self, network, settings, args):
        self.cuda = args.device.startswith("cuda")
        wide = torch.float64 if args.dtype == "fp64" else torch.float32
        self.format = torch.channels_last if args.channels_last else torch.contiguous_format
        self.place = {"device": args.device, "dtype": wide}
        self.network = network.to(**self.place, memory_format=self.format)
        self.run = torch.compile(self.network, mode=args.compile_mode) if args.compile else self.network
        self.optimizer = make_optimizer(network.parameters(), settings, self.cuda)
        self.autocast = {"device_type": self.place["device"].split(":")[0], "dtype": AUTOCAST.get(args.dtype),
                         "enabled": args.dtype in AUTOCAST}
        self.scaler = torch.amp.GradScaler(self.autocast["device_type"], enabled=args.dtype == "fp16")

    def images(self, x):
        return x.to(**self.place).contiguous(memory_format=self.format)

    def step(self, x, y):
        """One update; the logits and loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(**self.autocast):
            logits = self.run(x)
            loss = F.cross_entropy(logits, y)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return logits.detach(), loss.detach()


def check(path, args):
    """Replays the golden file's training steps; True when they agree."""
    meta, tensors = load_golden(path)
    if meta["kind"] != "backprop":
        sys.exit(f"{path}: --check needs kind backprop")
    network = FeedForward(meta["network"], meta["channels"], meta["num_inputs"], meta["num_outputs"])
    network.load_state_dict({n[5:]: t for n, t in tensors.items() if n.startswith("init.")})
    trainer = Trainer(network, meta, args)
    errors = {}

    def compare(name, got):
        want = tensors[name].double()
        errors[name] = float((got.double().cpu().reshape(want.shape) - want).abs().max() / want.abs().max().clamp(min=1e-3))

    steps = sum(name.startswith("x.") for name in tensors)
    for i in range(steps):
        logits, loss = trainer.step(trainer.images(tensors[f"x.{i}"]), tensors[f"y.{i}"].to(args.device))
        compare(f"logits.{i}", logits)
        compare(f"loss.{i}", loss)
    for name, tensor in network.state_dict().items():
        compare(f"after{steps}.{name}", tensor)
    network.eval()
    with torch.inference_mode():
        compare("eval.logits", network(trainer.images(tensors["x.0"])))
    # Adam divides a gradient that is only rounding by its own size: a convolution's bias moves by chance, and nothing follows.
    judged = {n: e for n, e in errors.items() if not n.endswith(".0.bias")}
    worst = max(judged, key=judged.get)
    # The files hold images rounded to float32.
    passed = judged[worst] <= (1e-5 if args.dtype == "fp64" else 5e-3)
    print(json.dumps({"check": path, "dtype": args.dtype, "passed": passed, "worst": worst, "error": judged[worst]}))
    return passed


def measure(name, args):
    torch.manual_seed(1)
    channels = tuple(map(int, args.channels.split(",")))
    trainer = Trainer(FeedForward(name, channels, args.inputs, args.classes), OPTIMIZERS[name], args)
    x = trainer.images(torch.randn(args.batch, args.inputs, 32, 32))
    y = torch.randint(args.classes, (args.batch,), device=args.device)
    sync = torch.cuda.synchronize if trainer.cuda else lambda: None
    seconds = []
    for repeat in range(args.warmup + args.repeats):
        sync()
        start = time.perf_counter()
        trainer.step(x, y)
        sync()
        if repeat >= args.warmup:
            seconds.append(time.perf_counter() - start)
    device = torch.cuda.get_device_name(args.device) if trainer.cuda else f"cpu, {torch.get_num_threads()} threads"
    print(json.dumps({
        "network": name, "channels": channels, "batch": args.batch, "dtype": args.dtype,
        "seconds_per_training_step": round(statistics.median(seconds), 6), "fastest_training_step": round(min(seconds), 6),
        "repeats": args.repeats, "channels_last": args.channels_last,
        "compile": args.compile_mode if args.compile else None, "torch": torch.__version__, "device": device,
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=OPTIMIZERS, help="default: both")
    parser.add_argument("--channels", default="128,256,512,512")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--inputs", type=int, default=3)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", choices=["fp64", "fp32", "tf32", *AUTOCAST], help="default: fp32, with --check fp64")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--compile-mode", default="default")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--check", metavar="GOLDEN", nargs="+", help="compare with golden files instead of timing")
    args = parser.parse_args()
    args.dtype = args.dtype or ("fp64" if args.check else "fp32")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.dtype == "tf32"
    torch.backends.cudnn.benchmark = True
    if args.check:
        sys.exit(0 if all([check(path, args) for path in args.check]) else 1)
    for name in [args.network] if args.network else OPTIMIZERS:
        measure(name, args)


if __name__ == "__main__":
    main()
