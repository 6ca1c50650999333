// The relaxation step in fp32 on ordinary cores: the parity anchor, and what needs fp32 (the input's drive).
//
//   p[pixel][c] = sum_taps sum_k source[pixel * step + offset][k] * w_tap[c][k]    then epilogue.cuh
//
// One block computes ROWS x COLUMNS: with two components ROWS/2 pixels, the first component in the upper half of the
// rows, the second in the lower.
//
//        COLUMNS channels           thread (ty, tx) owns rows ty + 16 i, i < 4, and columns 4 tx .. 4 tx + 3, so it
//      +-----------------+          holds both components of its units.
//      | q of 32 pixels  |
//      +-----------------+          K advances DEPTH channels of one tap at a time through shared memory:
//      | d of 32 pixels  |          a[DEPTH][ROWS], b[DEPTH][COLUMNS], 6.6 KB with the padding that keeps the transposing
//      +-----------------+          stores off one bank.
#include "epilogue.cuh"

namespace simt {

constexpr int THREADS = 128;
constexpr int ROWS = 64;
constexpr int COLUMNS = 32;
constexpr int DEPTH = 16;
constexpr int PER_THREAD = 4; // rows and columns of a thread's square
constexpr int ROW_THREADS = ROWS / PER_THREAD;
constexpr int PAD = 4;

static_assert(THREADS == ROW_THREADS * (COLUMNS / PER_THREAD), "one square per thread");
static_assert(ROWS * DEPTH == THREADS * 8, "a thread fetches 8 channels of one row of a");
static_assert(COLUMNS * DEPTH == THREADS * 4, "a thread fetches 4 elements of b");

struct Shared {
    float a[DEPTH][ROWS + PAD];
    float b[DEPTH][COLUMNS + PAD];
    EqChange changes[THREADS / WARP];
};

template <int COMPONENTS>
__device__ __forceinline__ void relax(const EqRelaxArgs& args) {
    if (phase_is_over(args.phase, args.within_phase)) return;
    constexpr int PIXELS = ROWS / COMPONENTS;
    const EqTile tile = args.tiles[blockIdx.x];
    const EqTarget& target = args.targets[tile.target];
    Shared& shared = *reinterpret_cast<Shared*>(shared_arena());
    const int thread = threadIdx.x;

    // Fetching a: this thread's row, and which 8 of the DEPTH channels.
    const int a_row = thread / 2, a_depth = 8 * (thread % 2);
    const int a_component = a_row / PIXELS;
    const ClassPixel a_pixel = class_pixel(target, args.images, tile.first_pixel + a_row % PIXELS);

    const int ty = thread % ROW_THREADS, tx = thread / ROW_THREADS;
    float sum[PER_THREAD][PER_THREAD] = {};

    for (uint32_t t = 0; t < target.taps; ++t) {
        const EqTap tap = args.taps[target.first_tap + t];
        const EqSource source = args.sources[tap.source];
        const float* state = static_cast<const float*>(present_side(source, args.phase));
        const float* weights = static_cast<const float*>(args.weights) + tap.weight;
        const int a_unit = source_unit(source, tap, a_pixel);
        const float* a_from = state + a_component * source.component_stride + (a_unit < 0 ? 0 : a_unit);
        for (uint32_t k0 = 0; k0 < source.channels; k0 += DEPTH) {
            const bool a_inside = a_unit >= 0 && k0 + a_depth < source.channels;
            for (int v = 0; v < 8; v += 4) {
                float4 four = make_float4(0, 0, 0, 0);
                if (a_inside) four = *reinterpret_cast<const float4*>(a_from + k0 + a_depth + v);
                shared.a[a_depth + v][a_row] = four.x;
                shared.a[a_depth + v + 1][a_row] = four.y;
                shared.a[a_depth + v + 2][a_row] = four.z;
                shared.a[a_depth + v + 3][a_row] = four.w;
            }
            if (tap.downwards) { // slab rows are K
                const int depth = thread / 8, column = 4 * (thread % 8);
                const uint32_t k = k0 + depth, c = tile.first_channel + column;
                float4 four = make_float4(0, 0, 0, 0);
                if (k < source.channels && c < target.channels)
                    four = *reinterpret_cast<const float4*>(weights + static_cast<size_t>(k) * tap.pitch + c);
                *reinterpret_cast<float4*>(&shared.b[depth][column]) = four;
            } else { // slab rows are output channels
                const int column = thread / 4, depth = 4 * (thread % 4);
                const uint32_t k = k0 + depth, c = tile.first_channel + column;
                float4 four = make_float4(0, 0, 0, 0);
                if (k < source.channels && c < target.channels)
                    four = *reinterpret_cast<const float4*>(weights + static_cast<size_t>(c) * tap.pitch + k);
                shared.b[depth][column] = four.x;
                shared.b[depth + 1][column] = four.y;
                shared.b[depth + 2][column] = four.z;
                shared.b[depth + 3][column] = four.w;
            }
            if (!EQ_MUTATION(4)) __syncthreads();
#pragma unroll
            for (int k = 0; k < DEPTH; ++k) {
                float b[PER_THREAD];
                load(b, &shared.b[k][PER_THREAD * tx]);
#pragma unroll
                for (int i = 0; i < PER_THREAD; ++i) {
                    const float a = shared.a[k][ty + ROW_THREADS * i];
#pragma unroll
                    for (int j = 0; j < PER_THREAD; ++j) sum[i][j] += a * b[j];
                }
            }
            if (!EQ_MUTATION(5)) __syncthreads();
        }
    }

    Change change;
    constexpr int OWN_PIXELS = PER_THREAD / COMPONENTS;
#pragma unroll
    for (int i = 0; i < OWN_PIXELS; ++i) {
        const ClassPixel at = class_pixel(target, args.images, tile.first_pixel + ty + ROW_THREADS * i);
        float p[COMPONENTS][PER_THREAD];
#pragma unroll
        for (int k = 0; k < COMPONENTS; ++k)
#pragma unroll
            for (int j = 0; j < PER_THREAD; ++j) p[k][j] = sum[k * OWN_PIXELS + i][j];
        finish<float>(args, target, at, tile.first_channel + PER_THREAD * tx, p, change);
    }
    if (args.form != EQ_FORM_RAW) report_change(args.changes, change, shared.changes);
}

} // namespace simt

EQ_KERNEL_RESIDENT(relax_simt_1, simt::THREADS, 8, EqRelaxArgs) { simt::relax<1>(args); }
EQ_KERNEL_RESIDENT(relax_simt_2, simt::THREADS, 8, EqRelaxArgs) { simt::relax<2>(args); }
