// The weight gradient in fp32 on ordinary cores.
//
//   dW[tap][post][pre] = sum_pixels m_pre[pixel stride + offset] d_post[pixel] + d_pre[..] m_post[pixel]
//
// which is half the difference of the two nudged states' products without subtracting them. One block computes
// POST x PRE of one tap over a piece of the pixels (split K); gather_gradient adds the pieces in order.
//
//   a[DEPTH pixels][POST], b[DEPTH pixels][PRE], 6.4 KB; a thread owns a 4 x 4 square.
#include "values.cuh"

namespace grad_simt {

constexpr int THREADS = 128;
constexpr int POST = 64;
constexpr int PRE = 32;
constexpr int DEPTH = 16;
constexpr int PER_THREAD = 4;
constexpr int POST_THREADS = POST / PER_THREAD;
constexpr int PAD = 4;

static_assert(THREADS == POST_THREADS * (PRE / PER_THREAD), "one square per thread");
static_assert(POST * DEPTH == THREADS * 8 && PRE * DEPTH == THREADS * 4, "8 + 4 elements to fetch per thread");

struct Shared {
    float a[DEPTH][POST + PAD];
    float b[DEPTH][PRE + PAD];
};

} // namespace grad_simt

EQ_KERNEL(weight_grad_simt, grad_simt::THREADS, EqGradArgs) {
    using namespace grad_simt;
    const EqGradTile tile = args.tiles[blockIdx.x];
    const EqGradEdge edge = args.edges[tile.edge];
    Shared& shared = *reinterpret_cast<Shared*>(shared_arena());
    const int thread = threadIdx.x;
    const int depth = thread / 8;
    const uint32_t post = tile.first_post + 8 * (thread % 8), pre = tile.first_pre + 4 * (thread % 8);
    const int ty = thread % POST_THREADS, tx = thread / POST_THREADS;
    const uint32_t post_pixels = edge.post_height * edge.post_width;
    float sum[PER_THREAD][PER_THREAD] = {};

    for (uint32_t product = 0; product < edge.products; ++product) {
        const float* pres = static_cast<const float*>(edge.pre) + product * edge.pre_stride;
        const float* posts = static_cast<const float*>(edge.post) + (1 - product) * edge.post_stride;
        for (uint32_t k0 = 0; k0 < tile.pixels; k0 += DEPTH) {
            const uint32_t pixel = tile.first_pixel + k0 + depth;
            const uint32_t image = pixel / post_pixels, within = pixel % post_pixels;
            const int y = static_cast<int>(within / edge.post_width) * edge.stride_y + tile.offset_y;
            int x = static_cast<int>(within % edge.post_width) * edge.stride_x + tile.offset_x;
            if (broken(GRADIENT_TAP_OFF_BY_ONE)) ++x;
            const bool live = k0 + depth < tile.pixels;
            const bool inside = live && y >= 0 && y < edge.pre_height && x >= 0 && x < edge.pre_width;
            for (int v = 0; v < 8; v += 4) {
                float4 four = make_float4(0, 0, 0, 0);
                if (live && post + v < edge.post_channels)
                    four = *reinterpret_cast<const float4*>(posts + static_cast<size_t>(pixel) * edge.post_channels +
                                                            post + v);
                *reinterpret_cast<float4*>(&shared.a[depth][8 * (thread % 8) + v]) = four;
            }
            float4 four = make_float4(0, 0, 0, 0);
            if (inside && pre < edge.pre_channels) {
                const size_t at = (static_cast<size_t>(image) * edge.pre_height + y) * edge.pre_width + x;
                four = *reinterpret_cast<const float4*>(pres + at * edge.pre_channels + pre);
            }
            *reinterpret_cast<float4*>(&shared.b[depth][4 * (thread % 8)]) = four;
            __syncthreads();
#pragma unroll
            for (int k = 0; k < DEPTH; ++k) {
                float a[PER_THREAD], b[PER_THREAD];
                load(a, &shared.a[k][PER_THREAD * ty]);
                load(b, &shared.b[k][PER_THREAD * tx]);
#pragma unroll
                for (int i = 0; i < PER_THREAD; ++i)
#pragma unroll
                    for (int j = 0; j < PER_THREAD; ++j) sum[i][j] += a[i] * b[j];
            }
            __syncthreads();
        }
    }
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
        const uint32_t row = tile.first_post + PER_THREAD * ty + i, column = tile.first_pre + PER_THREAD * tx;
        if ((row < edge.post_channels || broken(GRADIENT_STORES_PADDING)) && column < edge.pre_channels)
            store(args.workspace + tile.out + static_cast<size_t>(row) * edge.pre_channels + column, sum[i]);
    }
}
