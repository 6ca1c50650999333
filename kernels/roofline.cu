// How fast mma.sync can possibly go: products in registers, no memory. For the benchmarks only.
//
// Hopper's and Blackwell's own tensor-core instructions (wgmma, tcgen05) reach more than mma.sync does; this is the limit of
// the instruction that relax_mma.cu uses.
#include "device.cuh"

namespace roofline {

constexpr int THREADS = 256;
constexpr int M = 4, N = 4; // fragments: half of those that a warp of relax_mma.cu has, by twice as many warps
constexpr int STEPS = 1024; // K steps per launch

} // namespace roofline

EQ_KERNEL_RESIDENT(roofline_mma, roofline::THREADS, 2, EqPackArgs) {
    using namespace roofline;
    uint32_t a[M][4], b[N / 2][4];
    float sum[M][N][4] = {};
    // 0x3c00: one in fp16, so that no product is trivial.
    for (auto& fragment : a)
        for (auto& value : fragment) value = 0x3c003c00u + threadIdx.x % 2;
    for (auto& fragment : b)
        for (auto& value : fragment) value = 0x3c003c00u;
    for (int step = 0; step < STEPS; ++step) mma_tile(sum, a, b);
    float total = 0;
    for (const auto& row : sum)
        for (const auto& fragment : row)
            for (const float value : fragment) total += value;
    // Never true; the compiler does not know.
    if (total == -1.0f) static_cast<float*>(args.packed)[threadIdx.x] = total;
}
