#!/usr/bin/env python3
"""Makes assets/fashion-mnist-mini from the four files of Fashion-MNIST.

    tools/make_fashion_mnist_mini.py /usr/share/datasets/fashion-mnist assets/fashion-mnist-mini

The first 500 (test: 100) images of each class are taken, in the order of the original files.
"""

import gzip
import struct
import sys
from pathlib import Path

PIXELS = 28 * 28
PER_CLASS = {"train": 500, "t10k": 100}


def read(path, header):
    data = gzip.decompress(path.read_bytes())
    return data[:header], data[header:]


def write(path, header, body):
    # No name and no time in the gzip header: the same input always gives the same file.
    path.write_bytes(gzip.compress(header + body, compresslevel=9, mtime=0))


def main(source, target):
    target.mkdir(parents=True, exist_ok=True)
    for split, per_class in PER_CLASS.items():
        images_name, labels_name = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
        images_header, images = read(source / images_name, 16)
        labels_header, labels = read(source / labels_name, 8)
        taken = [0] * 10
        chosen = []
        for index, label in enumerate(labels):
            if taken[label] < per_class:
                taken[label] += 1
                chosen.append(index)
        count = struct.pack(">I", len(chosen))
        write(
            target / images_name,
            images_header[:4] + count + images_header[8:],
            b"".join(images[i * PIXELS : (i + 1) * PIXELS] for i in chosen),
        )
        write(
            target / labels_name,
            labels_header[:4] + count,
            bytes(labels[i] for i in chosen),
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
