# The program with its CUDA kernels: `docker build -t eqprop-cuda .`, then
# `docker run --gpus all -v "$PWD:/runs" -v eqprop-data:/data eqprop-cuda train --preset fast-cifar10 --output one`.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential rustup \
    && rm -rf /var/lib/apt/lists/* \
    && rustup toolchain install 1.89 --profile minimal
WORKDIR /source
COPY . .
RUN cargo +1.89 install --locked --path . --root /opt/eqprop-cuda

# The driver's libcuda.so comes from the host; the kernels are inside the program.
FROM ubuntu:24.04
COPY --from=build /opt/eqprop-cuda/bin/eqprop-cuda /usr/local/bin/
COPY LICENSE THIRD-PARTY-NOTICES.txt /usr/share/doc/eqprop-cuda/
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility EQPROP_DATA=/data
VOLUME /data
WORKDIR /runs
ENTRYPOINT ["eqprop-cuda"]
CMD ["--help"]
