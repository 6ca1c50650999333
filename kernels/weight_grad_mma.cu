// The weight gradient on tensor cores: fp16 operands, fp32 sums.
//
//   dW[tap][post][pre] = sum_pixels m_pre[pixel stride + offset] d_post[pixel] + d_pre[..] m_post[pixel]
//
// Neither product subtracts anything large, so fp16 operands cost only their own rounding, 5e-4 relative per factor. One
// block computes POST x PRE of one tap over a piece of the pixels (split K); gather_gradient adds the pieces in order.
//
//      a[DEPTH pixels][POST], b[DEPTH pixels][PRE]      both with K along the rows, as the states lie in memory:
//                                                       ldmatrix.trans turns both into fragments
//
// Shared memory: STAGES x DEPTH x (POST + PRE) x 2 bytes, 64 KB for 128 x 128. Limit: tensor cores.
#include "mma_slices.cuh"
#include "values.cuh"

namespace grad_mma {

using mma::DEPTH;
using mma::PIECE;
using mma::STAGES;
using mma::STEP;

template <int POST_, int PRE_, int WARPS_M_, int WARPS_N_>
struct Tile {
    static constexpr int POST = POST_;
    static constexpr int PRE = PRE_;
    static constexpr int WARPS_N = WARPS_N_;
    static constexpr int THREADS = WARPS_M_ * WARPS_N_ * WARP;
    static constexpr int M = POST / WARPS_M_ / 16;
    static constexpr int N = PRE / WARPS_N_ / 8;
    static constexpr int A_BYTES = DEPTH * POST * 2;
    static constexpr int STAGE_BYTES = A_BYTES + DEPTH * PRE * 2;
    static constexpr int A_PIECES = DEPTH * POST / PIECE / THREADS;
    static constexpr int B_PIECES = DEPTH * PRE / PIECE / THREADS;
    static_assert(A_PIECES * THREADS * PIECE == DEPTH * POST, "threads share a's pieces evenly");
    static_assert(B_PIECES * THREADS * PIECE == DEPTH * PRE, "threads share b's pieces evenly");
    static_assert(N % 2 == 0, "ldmatrix.x4 brings two column fragments at once");
};

using Wide = Tile<128, 128, 2, 2>;
using Narrow = Tile<32, 32, 2, 2>;

template <class T>
__device__ __forceinline__ void weight_grad(const EqGradArgs& args) {
    const EqGradTile tile = args.tiles[blockIdx.x];
    const EqGradEdge edge = args.edges[tile.edge]; // a copy: no load in the loop
    const SharedAddress arena = shared_address(shared_arena());
    const int thread = threadIdx.x, warp = thread / WARP, lane = thread % WARP;
    const int warp_m = warp / T::WARPS_N, warp_n = warp % T::WARPS_N;
    const uint32_t post_pixels = edge.post_height * edge.post_width;
    const uint32_t steps_per_product = (tile.pixels + DEPTH - 1) / DEPTH;
    const uint32_t steps = steps_per_product * edge.products;

    auto fetch = [&](uint32_t step, int stage) {
        if (step < steps) {
            const uint32_t product = step / steps_per_product;
            const uint32_t first = step % steps_per_product * DEPTH;
            const Fp16* pres = static_cast<const Fp16*>(edge.pre) + product * edge.pre_stride;
            const Fp16* posts = static_cast<const Fp16*>(edge.post) + (1 - product) * edge.post_stride;
            const uint32_t end = tile.pixels + (broken(GRADIENT_READS_PIXEL_TOO_MANY) ? 1 : 0);
            SharedAddress a = arena + stage * T::STAGE_BYTES;
            SharedAddress b = a + T::A_BYTES;
#pragma unroll
            for (int i = 0; i < T::A_PIECES; ++i) {
                constexpr int PER_ROW = T::POST / PIECE;
                const int index = thread + i * T::THREADS, row = index / PER_ROW, piece = index % PER_ROW;
                const uint32_t channel = tile.first_post + piece * PIECE;
                const bool present = first + row < tile.pixels && channel < edge.post_channels;
                const size_t pixel = tile.first_pixel + first + row;
                cp_async_16(a + mma::flat_offset<T::POST>(row, piece),
                            present ? posts + pixel * edge.post_channels + channel : posts, present);
            }
#pragma unroll
            for (int i = 0; i < T::B_PIECES; ++i) {
                constexpr int PER_ROW = T::PRE / PIECE;
                const int index = thread + i * T::THREADS, row = index / PER_ROW, piece = index % PER_ROW;
                const uint32_t channel = tile.first_pre + piece * PIECE;
                const uint32_t pixel = tile.first_pixel + first + row;
                const uint32_t image = pixel / post_pixels, within = pixel % post_pixels;
                const int y = static_cast<int>(within / edge.post_width) * edge.stride_y + tile.offset_y;
                const int x = static_cast<int>(within % edge.post_width) * edge.stride_x + tile.offset_x;
                const bool present = first + row < end && channel < edge.pre_channels && y >= 0 &&
                                     y < edge.pre_height && x >= 0 && x < edge.pre_width;
                const size_t at = (static_cast<size_t>(image) * edge.pre_height + y) * edge.pre_width + x;
                cp_async_16(b + mma::flat_offset<T::PRE>(row, piece),
                            present ? pres + at * edge.pre_channels + channel : pres, present);
            }
        }
        cp_async_commit();
    };

    float sum[T::M][T::N][4] = {};
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) fetch(stage, stage);
    for (uint32_t step = 0; step < steps; ++step) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        fetch(step + STAGES - 1, (step + STAGES - 1) % STAGES);
        const SharedAddress a = arena + step % STAGES * T::STAGE_BYTES;
        const SharedAddress b = a + T::A_BYTES;
#pragma unroll
        for (int k = 0; k < DEPTH; k += STEP) {
            uint32_t fa[T::M][4], fb[T::N / 2][4];
#pragma unroll
            for (int i = 0; i < T::M; ++i) { // matrices: rows 0..7 and 8..15 of K 0..7, then of K 8..15
                const int piece = (warp_m * T::M + i) * 2 + lane / 8 % 2;
                ldmatrix_x4_trans(fa[i], a + mma::flat_offset<T::POST>(k + lane % 8 + lane / 16 * 8, piece));
            }
#pragma unroll
            for (int j = 0; j < T::N; j += 2) { // matrices: K 0..7 and 8..15 of fragment j, then of j + 1
                const int piece = warp_n * T::N + j + lane / 16;
                ldmatrix_x4_trans(fb[j / 2], b + mma::flat_offset<T::PRE>(k + lane % 16, piece));
            }
            mma_tile(sum, fa, fb);
        }
    }

    const int group = lane / 4, pair = 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < T::M; ++i)
#pragma unroll
        for (int j = 0; j < T::N; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const uint32_t row = tile.first_post + (warp_m * T::M + i) * 16 + group + 8 * half;
                const uint32_t column = tile.first_pre + (warp_n * T::N + j) * 8 + pair;
                if (row >= edge.post_channels || column >= edge.pre_channels) continue;
                const float two[2] = {sum[i][j][2 * half], sum[i][j][2 * half + 1]};
                store(args.workspace + tile.out + static_cast<size_t>(row) * edge.pre_channels + column, two);
            }
}

} // namespace grad_mma

EQ_KERNEL(weight_grad_mma_wide, grad_mma::Wide::THREADS, EqGradArgs) { grad_mma::weight_grad<grad_mma::Wide>(args); }
EQ_KERNEL(weight_grad_mma_narrow, grad_mma::Narrow::THREADS, EqGradArgs) {
    grad_mma::weight_grad<grad_mma::Narrow>(args);
}
