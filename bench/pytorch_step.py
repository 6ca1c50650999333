#!/usr/bin/env python3
"""One training step of equilibrium propagation in PyTorch: the opponent in our benchmarks.

Written from the equations (docs/, src/ep/mod.rs), not from the published code. It does what a careful PyTorch user would:
no autograd (the gradient is local), no Python work per element, cuDNN and BLAS for every product. Options switch on what
else PyTorch offers: `--tuned` keeps the input's constant contribution, the pooled convolutions that two half-iterations
share, and runs both nudged phases as one batch; `--channels-last`, `--compile` and `--dtype` speak for themselves.
The order is the published one: layers 1, 3, 5, .. together, then 2, 4, 6, .. (pytorch_feedforward.py is the same for
backpropagation.)

    pytorch_step.py --network hopfieldresnet13 --channels 128,256,512,512 --batch 128 \
        --free 120 --nudged 50 --device cuda --dtype fp16 --tuned --channels-last --compile
    pytorch_step.py --baseline-configs --threads 2
    pytorch_step.py --check tests/golden/resnet13_relu6_mse.safetensors

Needs torch, and safetensors for --check. Prints one JSON object per configuration.
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

# (pre, post, kernel, stride) of the convolutions in the order of `weight.e`; the dense head comes last.
NETWORKS = {
    "hopfieldresnet13": {
        "edges": [(0, 1, 3, 1), (1, 2, 3, 2), (0, 2, 1, 2), (2, 3, 3, 1), (2, 4, 1, 2), (3, 4, 3, 2),
                  (4, 5, 3, 1), (4, 6, 1, 2), (5, 6, 3, 2), (6, 7, 3, 1), (6, 8, 1, 2), (7, 8, 3, 2)],
        "widths": [0, 0, 1, 1, 2, 2, 3, 3],
        "sides": [32, 32, 16, 16, 8, 8, 4, 4, 2],
        "pooled": False,
        "gains": [.6, .6, .7, .6, .7, .6, .6, .7, .6, .6, .7, .6, .8],
    },
    "vgg5": {
        "edges": [(0, 1, 3, 1), (1, 2, 3, 1), (2, 3, 3, 1), (3, 4, 3, 1)],
        "widths": [0, 1, 2, 3],
        "sides": [32, 16, 8, 4, 2],
        "pooled": True,
        "gains": [.4, .7, .6, .3, .6],
    },
}

BASELINE_CONFIGS = [
    ("hopfieldresnet13", (32, 64, 128, 128), 32, 20, 10),
    ("vgg5", (32, 64, 128, 128), 32, 20, 10),
    ("hopfieldresnet13", (128, 256, 512, 512), 4, 4, 2),
]

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16,
          "bf16": torch.bfloat16}


class Network:
    """Layers 0 (input) to `last` (output), and what is fixed about them."""

    def __init__(self, name, channels, inputs, classes, clips):
        spec = NETWORKS[name]
        self.name, self.pooled, self.sides = name, spec["pooled"], spec["sides"]
        self.edges = spec["edges"]
        self.last = len(spec["widths"]) + 1
        self.channels = [inputs] + [channels[w] for w in spec["widths"]] + [classes]
        self.clips = clips if isinstance(clips, list) else [clips] * (self.last - 1)
        self.gains = spec["gains"]

    def weight_shapes(self):
        c = self.channels
        convs = [(c[post], c[pre], k, k) for pre, post, k, _ in self.edges]
        return convs + [(c[-2], self.sides[-1], self.sides[-1], c[-1])]

    def init(self, generator):
        def uniform(shape, bound):
            return (torch.rand(shape, generator=generator) * 2 - 1) * bound

        weights, biases = [], [None] * (self.last + 1)
        posts = [edge[1] for edge in self.edges] + [self.last]
        for shape, gain, post in zip(self.weight_shapes(), self.gains, posts):
            dense = len(shape) == 4 and post == self.last
            fan_in = shape[0] * shape[1] * shape[2] if dense else shape[1] * shape[2] * shape[3]
            weights.append(uniform(shape, gain / fan_in ** .5))
            if biases[post] is None:
                biases[post] = uniform((self.channels[post],), .5 / fan_in ** .5)
        return weights, biases[1:]


class Machine:
    """A network with parameters and states on a device. States are (N, C, H, W), the output (N, classes)."""

    def __init__(self, network, weights, biases, loss, device, dtype, channels_last, tuned, compiled=None):
        self.net, self.loss, self.device, self.dtype, self.tuned = network, loss, device, dtype, tuned
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        master = torch.float64 if dtype == torch.float64 else torch.float32
        self.master_weights = [w.to(device, master) for w in weights]
        self.master_biases = [b.to(device, master) for b in biases]
        self.refresh()
        self.step_fn = self.iteration if compiled is None else torch.compile(
            self.iteration, mode=compiled, dynamic=False)
        self.states = None

    def refresh(self):
        """The copies that the phases compute with."""
        cast = [w.to(self.dtype) for w in self.master_weights]
        self.weights = [w.contiguous(memory_format=self.format) for w in cast[:-1]]
        self.head = cast[-1].flatten(0, 2).contiguous()
        self.biases = [b.to(self.dtype) for b in self.master_biases]

    def image(self, x):
        return x.to(self.device, self.dtype).contiguous(memory_format=self.format)

    def zeros(self, n):
        net = self.net
        sides = [(l, net.sides[l]) for l in range(1, net.last)]
        hidden = [self.image(torch.zeros(n, net.channels[l], side, side)) for l, side in sides]
        return tuple(hidden) + (torch.zeros(n, net.channels[-1], device=self.device, dtype=self.dtype),)

    # ---- the operators ------------------------------------------------------------------------------------------

    def conv(self, e, x):
        _, _, k, stride = self.net.edges[e]
        return F.conv2d(x, self.weights[e], stride=stride, padding=k // 2)

    def conv_transposed(self, e, y):
        pre, _, k, stride = self.net.edges[e]
        pad = k // 2
        # The side of the convolution's input, which is that of layer `pre`.
        extra = self.net.sides[pre] - ((y.shape[-1] - 1) * stride - 2 * pad + k)
        return F.conv_transpose2d(y, self.weights[e], stride=stride, padding=pad, output_padding=extra)

    def constant_part(self, x):
        """What the clamped input contributes to each layer; constant during a batch."""
        constant = [None] * (self.net.last + 1)
        for e, (pre, post, _, _) in enumerate(self.net.edges):
            if pre == 0:
                y = self.conv(e, x)
                y = F.max_pool2d(y, 2) if self.net.pooled else y
                constant[post] = y if constant[post] is None else constant[post] + y
        return constant

    def pre_activation(self, l, s, x, constant, pools):
        """`b_l + sum Op(s_pre) + sum Op^T(s_post)`. `s[l]` is the state of layer l; `s[0]` is unused."""
        net = self.net
        if l == net.last:
            return torch.addmm(self.biases[-1], s[l - 1].flatten(1), self.head)
        p = self.biases[l - 1].view(1, -1, 1, 1)
        if constant is not None and constant[l] is not None:
            p = p + constant[l]
        for e, (pre, post, _, _) in enumerate(net.edges):
            if post == l and (pre != 0 or constant is None):
                source = x if pre == 0 else s[pre]
                p = p + (self.pool(e, source, pools)[0] if net.pooled else self.conv(e, source))
            if pre == l:
                y = s[post]
                if net.pooled:
                    y = F.max_unpool2d(y, self.pool(e, s[l], pools)[1], 2)
                p = p + self.conv_transposed(e, y)
        if l == net.last - 1:
            p = p + (s[net.last] @ self.head.t()).view(s[l].shape)
        return p

    def pool(self, e, source, pools):
        """Max-pooled convolution and where its maxima lie. `pools` keeps it as long as the pre layer stays."""
        if pools is not None and e in pools:
            return pools[e]
        result = F.max_pool2d(self.conv(e, source), 2, return_indices=True)
        if pools is not None:
            pools[e] = result
        return result

    def iteration(self, states, x, constant, target, betas, pools):
        """Every free layer once. `betas` is None in the free phase, else one strength per example."""
        net, s = self.net, [None, *states]
        kept = None if pools is None else dict(pools)
        for group in (range(1, net.last + 1, 2), range(2, net.last + 1, 2)):
            new = {}
            for l in group:
                p = self.pre_activation(l, s, x, constant, kept)
                if l == net.last:
                    if betas is not None:
                        output = s[l] if self.loss == "MSE" else torch.softmax(s[l], 1)
                        p = p - betas * (output - target)
                    new[l] = p
                else:
                    new[l] = p.clamp(0, net.clips[l - 1])
            for l, state in new.items():
                s[l] = state
            if kept is not None:
                for e, (pre, _, _, _) in enumerate(net.edges):
                    if pre in new:
                        kept.pop(e, None)
        return tuple(s[1:]), kept

    def relax(self, states, iterations, x, constant, target=None, betas=None):
        pools = {} if self.tuned and self.net.pooled else None
        for _ in range(iterations):
            states, pools = self.step_fn(states, x, constant, target, betas, pools)
        return states

    # ---- phases and gradient ------------------------------------------------------------------------------------

    def free_phase(self, x, start, iterations):
        constant = self.constant_part(x) if self.tuned else None
        return self.relax(start, iterations, x, constant), constant

    def nudged_phases(self, free, x, constant, target, beta, iterations):
        """The states with -beta and with +beta, stacked."""
        n = x.shape[0]
        if not self.tuned:
            ends = []
            for b in (-beta, beta):
                betas = torch.full((n, 1), b, device=self.device, dtype=self.dtype)
                ends.append(self.relax(free, iterations, x, constant, target, betas))
            return tuple(torch.cat(pair) for pair in zip(*ends))
        twice = lambda t: None if t is None else torch.cat((t, t))
        betas = torch.full((2 * n, 1), beta, device=self.device, dtype=self.dtype)
        betas[:n] *= -1
        return self.relax(tuple(map(twice, free)), iterations, twice(x), [twice(d) for d in constant], twice(target),
                          betas)

    def gradient(self, both, x, beta):
        """`(dE/dtheta(+beta) - dE/dtheta(-beta)) / (2 beta)`, averaged over the batch: one product per edge, in which
        the first half of the stack counts negatively."""
        n, net = x.shape[0], self.net
        s = [torch.cat((x, x)), *both]
        scale = -1 / (2 * beta * n)
        wide = self.master_weights[0].dtype
        weights = []
        for e, (pre, post, k, stride) in enumerate(net.edges):
            y = s[post]
            if net.pooled:
                y = F.max_unpool2d(y, F.max_pool2d(self.conv(e, s[pre]), 2, return_indices=True)[1], 2)
            y = torch.cat((-y[:n], y[n:]))
            _, w, _ = torch.ops.aten.convolution_backward(
                y, s[pre], self.weights[e], None, (stride, stride), (k // 2, k // 2), (1, 1), False, (0, 0), 1,
                (False, True, False))
            weights.append(w.to(wide) * scale)
        y = torch.cat((-s[net.last][:n], s[net.last][n:]))
        weights.append((s[net.last - 1].flatten(1).t() @ y).view(self.master_weights[-1].shape).to(wide) * scale)
        biases = []
        for l in range(1, net.last + 1):
            difference = s[l][n:].to(wide) - s[l][:n].to(wide)
            biases.append(difference.sum((0, 2, 3) if l < net.last else 0) * scale)
        return biases, weights


def load_golden(path):
    from safetensors import safe_open
    with safe_open(path, "pt") as f:
        metadata = {key: json.loads(value) for key, value in f.metadata().items()}
        return metadata, {name: f.get_tensor(name) for name in f.keys()}


def clips_of(activation, tensors=None):
    if activation == "reluclip":
        return tensors["clip"].tolist()
    return {"relu6": 6.0, "hard-sigmoid": 1.0}[activation]


def one_hot(labels, classes, machine):
    return F.one_hot(labels.to(machine.device), classes).to(machine.dtype)


def check(path, args):
    """Compares states and gradient with a golden file; True when they agree."""
    meta, tensors = load_golden(path)
    if (meta["kind"], meta["mode"], meta["variant"]) != ("ep", "asynchronous", "centered"):
        sys.exit(f"{path}: --check needs kind ep, mode asynchronous, variant centered")
    net = Network(meta["network"], meta["channels"], meta["num_inputs"], meta["num_outputs"],
                  clips_of(meta["activation"], tensors))
    weights = [tensors[f"weight.{e}"] for e in range(len(net.edges) + 1)]
    biases = [tensors[f"bias.{l}"] for l in range(1, net.last + 1)]
    machine = make(net, weights, biases, meta["loss"], args)
    x, target = machine.image(tensors["x"]), one_hot(tensors["y"], meta["num_outputs"], machine)
    free, constant = machine.free_phase(x, machine.zeros(len(x)), meta["free_iterations"])
    both = machine.nudged_phases(free, x, constant, target, meta["beta"], meta["nudged_iterations"])
    grad_biases, grad_weights = machine.gradient(both, x, meta["beta"])

    exact = args.dtype == "fp64"
    errors = {}
    n = len(x)
    phases = {f"free.k{meta['free_iterations']}": free, "first": [s[:n] for s in both],
              "second": [s[n:] for s in both]}
    for name, states in phases.items():
        if f"{name}.layer.1" not in tensors:
            continue
        names = [f"{name}.layer.{l + 1}" for l in range(len(states))]
        errors[name] = max((
            float((s.double().cpu() - tensors[key].double()).abs().max() / tensors[key].abs().max().clamp(min=1e-30))
            for key, s in zip(names, states)))
    golden = [tensors[f"grad.raw.bias.{l}"] for l in range(1, net.last + 1)]
    golden += [tensors[f"grad.raw.weight.{e}"] for e in range(len(net.edges) + 1)]
    flat = lambda parts: torch.cat([p.double().cpu().flatten() for p in parts])
    ours, golden = flat(grad_biases + grad_weights), flat(golden)
    errors["gradient"] = float((ours - golden).norm() / golden.norm())
    cosine = float(F.cosine_similarity(ours, golden, dim=0))
    # Where training has left a small gradient, rounding shows: its direction is what float32 can promise.
    small = meta.get("purpose") == "precision" and not exact
    judged = {name: error for name, error in errors.items() if not (small and name == "gradient")}
    passed = max(judged.values()) <= (1e-6 if exact else 1e-4) and cosine >= (.9998 if small else .999999)
    print(json.dumps({"check": path, "dtype": args.dtype, "passed": passed, "relative_errors": errors,
                      "cosine": cosine}))
    return passed


def make(net, weights, biases, loss, args):
    compiled = args.compile_mode if args.compile else None
    return Machine(net, weights, biases, loss, args.device, DTYPES[args.dtype], args.channels_last, args.tuned,
                   compiled)


def measure(config, args):
    """Times whole training steps; the free phase's share on its own."""
    name, channels, batch, free_iterations, nudged_iterations = config
    generator = torch.Generator().manual_seed(1)
    net = Network(name, channels, args.inputs, args.classes, clips_of(args.activation))
    machine = make(net, *net.init(generator), args.loss, args)
    x = machine.image(torch.randn(batch, args.inputs, 32, 32, generator=generator))
    target = one_hot(torch.randint(args.classes, (batch,), generator=generator), args.classes, machine)
    parameters = machine.master_biases + machine.master_weights
    optimizer = torch.optim.SGD(parameters, lr=.01, momentum=.9, weight_decay=3.5e-4, nesterov=True, foreach=True)
    cuda = machine.device.startswith("cuda")
    sync = torch.cuda.synchronize if cuda else lambda: None
    states = machine.zeros(batch)
    steps, frees = [], []
    for repeat in range(args.warmup + args.repeats):
        sync()
        start = time.perf_counter()
        free, constant = machine.free_phase(x, states, free_iterations)
        sync()
        middle = time.perf_counter()
        both = machine.nudged_phases(free, x, constant, target, args.beta, nudged_iterations)
        for p, g in zip(parameters, sum(machine.gradient(both, x, args.beta), [])):
            p.grad = g
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        machine.refresh()
        states = tuple(s[batch:].clone() for s in both)
        sync()
        end = time.perf_counter()
        if repeat >= args.warmup:
            steps.append(end - start)
            frees.append(middle - start)
    print(json.dumps({
        "network": name, "channels": list(channels), "batch": batch, "free_iterations": free_iterations,
        "nudged_iterations": nudged_iterations, "seconds_per_training_step": round(statistics.median(steps), 6),
        "seconds_free_phase": round(statistics.median(frees), 6), "fastest_training_step": round(min(steps), 6),
        "repeats": args.repeats, "dtype": args.dtype, "tuned": args.tuned, "channels_last": args.channels_last,
        "compile": args.compile_mode if args.compile else None, "torch": torch.__version__,
        "device": torch.cuda.get_device_name(machine.device) if cuda else f"cpu, {torch.get_num_threads()} threads",
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="hopfieldresnet13")
    parser.add_argument("--channels", default="128,256,512,512")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--free", type=int, default=120, help="iterations of the free phase")
    parser.add_argument("--nudged", type=int, default=50, help="iterations of each nudged phase")
    parser.add_argument("--inputs", type=int, default=3)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--activation", choices=["relu6", "hard-sigmoid"], default="relu6")
    parser.add_argument("--loss", choices=["MSE", "CE"], default="MSE")
    parser.add_argument("--beta", type=float, default=.1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", choices=DTYPES, help="default: fp32, with --check fp64")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--compile-mode", default="default")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--baseline-configs", action="store_true", help="the three configurations of our CPU baseline")
    parser.add_argument("--check", metavar="GOLDEN", nargs="+", help="compare with golden files instead of timing")
    args = parser.parse_args()
    args.dtype = args.dtype or ("fp64" if args.check else "fp32")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.dtype == "tf32"
    torch.backends.cudnn.benchmark = True
    with torch.inference_mode():
        if args.check:
            sys.exit(0 if all([check(path, args) for path in args.check]) else 1)
        single = (args.network, tuple(map(int, args.channels.split(","))), args.batch, args.free, args.nudged)
        for config in BASELINE_CONFIGS if args.baseline_configs else [single]:
            measure(config, args)


if __name__ == "__main__":
    main()
