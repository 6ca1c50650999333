#!/usr/bin/env python3
"""Registers, spills, shared memory and tensor-core instructions of every kernel, from the compiled fat binary.

    kernels/resources.py [kernels.fatbin] [--cuobjdump PATH] [--loop KERNEL]

Without a file: the newest one that cargo built. Fails when a hot kernel spills, when it is larger than the instruction cache, when a
tensor-core kernel has no tensor-core instruction or more registers than two blocks on a multiprocessor have, and when its loop or what
follows it (the epilogue) has grown beyond the bounds below, in instructions or in loads of global memory; of the kernels for Hopper, when
they lack one of their instructions, have other registers than planned, the compiler has put waits between products, or those for clusters
do not send to both blocks; and when the module beside it, of the kernel that steers loops, lacks an architecture or asks for a name that is
not the driver's. --loop prints the instruction mix of the longest loop with HMMA of one kernel.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

# Kernels that run once per iteration, per layer, or over the whole gradient: a spill costs time in each of them.
HOT = ("relax_", "weight_grad_", "batch_norm_")
TENSOR_CORE = "_mma_"
# Products of warpgroups, copies by tensor map, registers that change hands.
HOPPER = ("HGMMA", "UTMALDG", "USETMAXREG")
# Registers of a thread when a block of three warpgroups starts, and what producer and consumers then change them to: 65,536 / 384 = 170
# and 56 + 2 x 224 = 504 for each 128 threads, both rounded down to multiples of eight. A compiler that does not know how many a kernel
# starts with drops USETMAXREG (ptxas's warning C7508).
HOPPER_REGISTERS, HOPPER_CHANGES = 168, {56, 224}
# Products of a slot of the ring, and waits: in the loop of each direction of the weights, or in the only one, and for the last products.
HOPPER_PRODUCTS = 8
HOPPER_LOOPS = {"relax_hopper_": 2, "weight_grad_hopper": 1}
# Kernels for clusters of two blocks, which fetch for one another, and meet at the beginning and at the end. Only there, and where each half
# of a state is handed over, do they wait for memory as the whole GPU sees it.
CLUSTER = "_cluster"
# Bytes of an instruction, and of the cache that a kernel's code should fit in.
INSTRUCTION, CACHE = 16, 128 * 1024
# 65,536 registers for two blocks of 128 threads.
REGISTERS = 256
# Instructions of the loop, and what may follow it: instructions, and loads of global memory. About a fifth more than nvcc 13.0 makes. A
# division at run time in the weight gradient's loop would be 30 instructions or more.
BOUNDS = {
    "relax_mma_wide": (1000, 6000, 260),
    "relax_mma_medium": (750, 3100, 140),
    "relax_mma_narrow": (620, 1650, 80),
    "weight_grad_mma_wide": (320, 1600, 0),
    "weight_grad_mma_narrow": (115, 200, 0),
}


# Steers a loop inside a graph: a module of its own (while_node.cu).
LOOP_KERNEL = "continue_phase"


def find_tool(given):
    nvcc = os.environ.get("NVCC") or shutil.which("nvcc") or ""
    beside = os.path.join(os.path.dirname(nvcc), "cuobjdump")
    for tool in (given, shutil.which("cuobjdump"), beside):
        if tool and os.path.exists(tool):
            return tool
    sys.exit("resources.py: cuobjdump was not found (pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm)")


def newest_fat_binary():
    root = os.environ.get("CARGO_TARGET_DIR") or os.path.join(os.path.dirname(__file__), "..", "target")
    found = glob.glob(os.path.join(root, "*", "build", "eqprop-cuda-*", "out", "kernels.fatbin"))
    if not found:
        sys.exit("resources.py: no kernels.fatbin under " + root + "; build with nvcc first")
    return max(found, key=os.path.getmtime)


def usage(tool, binary):
    """{(arch, kernel): {REG, STACK, SHARED, LOCAL}}"""
    text = subprocess.run([tool, "-res-usage", binary], check=True, capture_output=True, text=True)
    result, arch = {}, None
    for line in (text.stdout + text.stderr).splitlines():
        if match := re.search(r"arch = (sm_\w+)", line):
            arch = match[1]
        elif match := re.search(r"Function (\w+):", line):
            kernel = match[1]
        elif "REG:" in line:
            result[arch, kernel] = {k: int(v) for k, v in re.findall(r"(\w+):(\d+)", line)}
    return result


def instructions(tool, binary):
    """{(arch, kernel): [(address, opcode, line)]}"""
    text = subprocess.run([tool, "-sass", binary], check=True, capture_output=True, text=True).stdout
    result, arch, body = {}, None, None
    for line in text.splitlines():
        if match := re.search(r"arch = (sm_\w+)", line):
            arch = match[1]
        elif match := re.search(r"Function : (\w+)", line):
            body = result.setdefault((arch, match[1]), [])
        elif match := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)([^;]*)", line):
            body.append((int(match[1], 16), match[2], match[3]))
    return result


def hot_loop(body):
    """The backward branch's body that holds most HMMA, and what follows it: two lists of opcodes."""
    best, after = [], []
    for address, opcode, rest in body:
        target = re.search(r"0x([0-9a-f]+)", rest) if opcode == "BRA" else None
        if target and (start := int(target[1], 16)) < address:
            loop = [o for a, o, _ in body if start <= a <= address]
            # The shortest loop around the most tensor-core work.
            key = (loop.count("HMMA"), -len(loop))
            if not best or key > (best.count("HMMA"), -len(best)):
                best, after = loop, [o for a, o, _ in body if a > address]
    return best, after


def of_loops(tool, binary, architectures):
    """What is wrong with the kernel that steers a loop: an image for each architecture, and one name that the driver has to resolve."""
    if not os.path.exists(binary):
        return []
    text = subprocess.run([tool, "-elf", binary], check=True, capture_output=True, text=True).stdout
    images = dict(re.findall(r"^Fatbin elf code:\n=+\narch = (sm_\w+)$(.*?)(?=^Fatbin |\Z)", text, re.M | re.S))
    problems = [f"continue_phase is missing on {arch}" for arch in sorted(architectures - set(images))]
    for arch, image in images.items():
        externs = set(re.findall(r"externs:\s*(\w+)", image))
        print(f"{arch:8} {LOOP_KERNEL:26} from the driver: {', '.join(sorted(externs))}")
        if f".text.{LOOP_KERNEL}" not in image or externs != {"cudaGraphSetConditional"}:
            problems.append(f"{LOOP_KERNEL} on {arch} is not one kernel that asks the driver for cudaGraphSetConditional alone")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--cuobjdump")
    parser.add_argument("--loop", metavar="KERNEL")
    options = parser.parse_args()
    tool, binary = find_tool(options.cuobjdump), options.binary or newest_fat_binary()
    used, code = usage(tool, binary), instructions(tool, binary)
    if options.loop:
        for (arch, kernel), body in sorted(code.items()):
            if kernel == options.loop:
                print(arch, kernel, dict(Counter(hot_loop(body)[0]).most_common(16)))
        return
    problems = []
    print(f"{'arch':8} {'kernel':26} {'registers':>9} {'stack':>6} {'spills':>6} {'HMMA':>6} {'LDSM':>6} {'LDGSTS':>6} {'all':>6}"
          f" {'KB':>6} {'after':>6} {'loads':>6}")
    for (arch, kernel), counts in sorted(used.items()):
        body = code.get((arch, kernel), [])
        opcodes = Counter(opcode for _, opcode, _ in body)
        size = INSTRUCTION * len(body)
        # Without a loop around HMMA there is no epilogue to speak of.
        loop, after = hot_loop(body) if TENSOR_CORE in kernel else ([], [])
        loads = after.count("LDG")
        spills = opcodes["LDL"] + opcodes["STL"]
        print(f"{arch:8} {kernel:26} {counts['REG']:9} {counts['STACK']:6} {spills:6} {opcodes['HMMA']:6} "
              f"{opcodes['LDSM']:6} {opcodes['LDGSTS']:6} {len(body):6} {size / 1024:6.1f} {len(after):6} {loads:6}")
        if kernel.startswith(HOT) and (spills or counts["STACK"]):
            problems.append(f"{kernel} spills on {arch}")
        if kernel.startswith(HOT) and size > CACHE:
            problems.append(f"{kernel} has {size} bytes of code on {arch}, more than the {CACHE} of the instruction cache")
        if kernel.startswith(HOT) and TENSOR_CORE in kernel and counts["REG"] > REGISTERS:
            problems.append(f"{kernel} has {counts['REG']} registers on {arch}: two blocks have {REGISTERS} each")
        for prefix, bounds in BOUNDS.items():
            if kernel.startswith(prefix) and any(n > most for n, most in zip((len(loop), len(after), loads), bounds)):
                problems.append(f"{kernel} has {len(loop)} instructions in its loop and {len(after)} with {loads} global loads after it "
                                f"on {arch}, more than {bounds[0]}, {bounds[1]} or {bounds[2]}")
        if TENSOR_CORE in kernel and not opcodes["HMMA"]:
            problems.append(f"{kernel} has no tensor-core instruction on {arch}")
        for prefix, loops in HOPPER_LOOPS.items():
            if not kernel.startswith(prefix):
                continue
            for opcode in HOPPER:
                if not opcodes[opcode]:
                    problems.append(f"{kernel} has no {opcode} on {arch}")
            changes = {int(n, 16) for _, opcode, rest in body if opcode == "USETMAXREG" for n in re.findall(r"\b0x([0-9a-f]+)", rest)}
            if (counts["REG"], changes) != (HOPPER_REGISTERS, HOPPER_CHANGES):
                problems.append(f"{kernel} starts with {counts['REG']} registers on {arch} and changes to {sorted(changes)}, where "
                                f"{HOPPER_REGISTERS} and {sorted(HOPPER_CHANGES)} are planned")
            waits = sum(opcode == "WARPGROUP" and rest.startswith(".DEPBAR") for _, opcode, rest in body)
            if (opcodes["HGMMA"], waits) != (loops * HOPPER_PRODUCTS, loops + 1):
                problems.append(f"{kernel} has {opcodes['HGMMA']} products and waits for them in {waits} places on {arch}, where "
                                f"{loops * HOPPER_PRODUCTS} and {loops + 1} are written")
            across = sum(opcode == "HGMMA" and ".tnspA.tnspB" in rest for _, opcode, rest in body)
            if prefix == "weight_grad_hopper" and across != opcodes["HGMMA"]:
                problems.append(f"{kernel} has products on {arch} whose operands do not both lie across")
        if kernel.endswith(CLUSTER):
            multicasts = sum(opcode == "UTMALDG" and ".MULTICAST" in rest for _, opcode, rest in body)
            fences = sum(opcode == "MEMBAR" and ".GPU" in rest for _, opcode, rest in body)
            meetings = (opcodes["UCGABAR_ARV"], opcodes["UCGABAR_WAIT"])
            planned = 2 if "_raw_" in kernel or not kernel.startswith("relax_") else 4
            if not multicasts or meetings != (2, 2) or fences > planned:
                problems.append(f"{kernel} has {multicasts} multicasts on {arch}, meets its neighbour {meetings} times and waits {fences} "
                                f"times for the GPU's memory, where some, two and {planned} are planned")
    problems += of_loops(tool, os.path.join(os.path.dirname(binary), "while_node.fatbin"), {arch for arch, _ in used})
    if not used:
        problems.append("no kernels in " + binary)
    for problem in problems:
        print("error:", problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
