// The weight gradient in fp32 on ordinary cores.
//
//   dW[tap][post][pre] = sum_pixels m_pre[pixel stride + offset] d_post[pixel] + d_pre[..] m_post[pixel]
//
// which is half the difference of the two nudged states' products without subtracting them. One block computes
// POST x COLUMNS over a piece of the pixels (split K); gather_gradient adds the pieces in order. Columns are the pre channels of
// one tap after another.
//
//   a[DEPTH pixels][POST], b[DEPTH pixels][COLUMNS], 6.4 KB; a thread owns a 4 x 4 square.
#include "pixel_walk.cuh"
#include "values.cuh"

namespace grad_simt {

constexpr int THREADS = 128;
constexpr int POST = 64;
constexpr int COLUMNS = 32;
constexpr int DEPTH = 16;
constexpr int PER_THREAD = 4;
constexpr int POST_THREADS = POST / PER_THREAD;
constexpr int PAD = 4;

static_assert(THREADS == POST_THREADS * (COLUMNS / PER_THREAD), "one square per thread");
static_assert(POST * DEPTH == THREADS * 8 && COLUMNS * DEPTH == THREADS * 4, "8 + 4 elements to fetch per thread");

struct Shared {
    float a[DEPTH][POST + PAD];
    float b[DEPTH][COLUMNS + PAD];
};

} // namespace grad_simt

// Registers for five blocks on a multiprocessor: what nvcc aims at by itself is six, and a spill on sm_90a.
EQ_KERNEL_RESIDENT(weight_grad_simt, grad_simt::THREADS, 5, EqGradArgs) {
    using namespace grad_simt;
    const EqGradTile tile = args.tiles[blockIdx.x];
    const EqGradEdge edge = args.edges[tile.edge];
    Shared& shared = *reinterpret_cast<Shared*>(shared_arena());
    const int thread = threadIdx.x;
    const int depth = thread / 8;
    const uint32_t post = tile.first_post + 8 * (thread % 8);
    const GradColumn column(edge, tile.first_column + 4 * (thread % 8));
    const PixelWalk<DEPTH> walk(edge, column);
    const int ty = thread % POST_THREADS, tx = thread / POST_THREADS;
    float sum[PER_THREAD][PER_THREAD] = {};

    for (uint32_t product = 0; product < edge.products; ++product) {
        const float* pres = static_cast<const float*>(edge.pre) + product * edge.pre_stride;
        const float* posts = static_cast<const float*>(edge.post) + (1 - product) * edge.post_stride;
        auto at = walk.at(edge, column, tile.first_pixel + depth);
        for (uint32_t k0 = 0; k0 < tile.pixels; k0 += DEPTH, walk.advance(at)) {
            const uint32_t pixel = tile.first_pixel + k0 + depth;
            const bool live = k0 + depth < tile.pixels;
            auto read = at;
            if (broken(GRADIENT_TAP_OFF_BY_ONE)) {
                ++read.x;
                read.unit += edge.pre_channels;
            }
            for (int v = 0; v < 8; v += 4) {
                float4 four = make_float4(0, 0, 0, 0);
                if (live && post + v < edge.post_channels)
                    four = *reinterpret_cast<const float4*>(posts + static_cast<size_t>(pixel) * edge.post_channels +
                                                            post + v);
                *reinterpret_cast<float4*>(&shared.a[depth][8 * (thread % 8) + v]) = four;
            }
            float4 four = make_float4(0, 0, 0, 0);
            if (live && column.present(edge) && walk.inside(read)) four = *reinterpret_cast<const float4*>(pres + read.unit);
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
    const GradColumn out(edge, tile.first_column + PER_THREAD * tx);
    if (!out.present(edge)) return;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
        const uint32_t row = tile.first_post + PER_THREAD * ty + i;
        bool live = row < edge.post_channels;
        if (broken(GRADIENT_STORES_PADDING)) live = true;
        if (live) store(args.workspace + tile.out + out.place(edge, row), sum[i]);
    }
}
