// The relaxation step in fp32 on ordinary cores: the parity anchor, and what needs fp32 (what the input adds).
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

constexpr int THREADS = EQ_RELAX_THREADS;
constexpr int ROWS = EQ_SIMT_ROWS;
constexpr int COLUMNS = EQ_SIMT_COLUMNS;
constexpr int DEPTH = 16;
constexpr int PER_THREAD = 4; // rows and columns of a thread's square
constexpr int ROW_THREADS = ROWS / PER_THREAD;
constexpr int PAD = 4;

static_assert(THREADS == ROW_THREADS * (COLUMNS / PER_THREAD), "one square per thread");
static_assert(COLUMNS == EQ_CHANGE_CHANNELS, "a tile is one strip of the change");
static_assert(ROWS * DEPTH == THREADS * 8, "a thread fetches 8 channels of one row of a");
static_assert(COLUMNS * DEPTH == THREADS * 4, "a thread fetches 4 elements of b");

struct Shared {
    float a[DEPTH][ROWS + PAD];
    float b[DEPTH][COLUMNS + PAD];
    EqChange changes[THREADS / WARP];
};

// Finishes PER_THREAD neighbouring channels of one pixel; p holds the accumulated taps.
template <int FORM, int COMPONENTS>
__device__ __forceinline__ void finish(const EqRelaxArgs& args, const EqTarget& target, const ClassPixel& at, int channel,
                                       float (&p)[COMPONENTS][PER_THREAD], Change& change) {
    constexpr int V = PER_THREAD;
    if (!at.present() || channel >= static_cast<int>(target.channels)) return;
    const size_t unit = static_cast<size_t>(layer_unit(target, at)) + channel;
    const auto add = [&](int k, const float* from, float scale) {
        float extra[V];
        load(extra, from);
#pragma unroll
        for (int v = 0; v < V; ++v) p[k][v] = fused(scale, extra[v], p[k][v]);
    };
#pragma unroll
    for (int k = 0; k < COMPONENTS; ++k) {
        if (target.bias && has_constant<FORM>(k)) add(k, target.bias + channel, 1.0f);
        if (target.constant && has_constant<FORM>(k)) add(k, target.constant + unit, 1.0f);
        if (target.addend) add(k, target.addend + k * target.component_stride + unit, 1.0f);
        if (target.nudge)
            add(k, target.nudge + (static_cast<size_t>(k) * args.images + at.image) * target.channels + channel, -1.0f);
        if (FORM == EQ_FORM_RAW) store(target.raw + k * target.component_stride + unit, p[k]);
    }
    if constexpr (FORM != EQ_FORM_RAW) {
        const Update update(target, *args.phase);
        const float* before = old_side<float>(target, *args.phase) + unit;
        float old[COMPONENTS][V], fresh[COMPONENTS][V], free_state[V];
#pragma unroll
        for (int k = 0; k < COMPONENTS; ++k) load(old[k], before + k * target.component_stride);
        if constexpr (FORM == EQ_FORM_PAIR) load(free_state, static_cast<const float*>(target.free_state) + unit);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const bool live = channel + v < static_cast<int>(target.live_channels);
            if constexpr (FORM == EQ_FORM_PAIR) {
                float q = old[0][v], d = old[1][v];
                update.pair(q, d, p[0][v], p[1][v], free_state[v]);
                fresh[0][v] = live ? q : 0.0f;
                fresh[1][v] = live ? d : 0.0f;
                change.add(old[1][v], fresh[1][v]);
            } else if constexpr (FORM == EQ_FORM_RESPONSE) {
                fresh[0][v] = update.response(old[0][v], p[0][v], live && responding(target, unit + v) & 1);
                change.add(old[0][v], fresh[0][v]);
            } else {
#pragma unroll
                for (int k = 0; k < COMPONENTS; ++k) {
                    fresh[k][v] = live ? update.state(old[k][v], p[k][v]) : 0.0f;
                    change.add(old[k][v], fresh[k][v]);
                }
            }
        }
        float* after = new_side<float>(target, *args.phase) + unit;
#pragma unroll
        for (int k = 0; k < COMPONENTS; ++k) store(after + k * target.component_stride, fresh[k]);
    }
}

template <int FORM, int COMPONENTS>
__device__ __forceinline__ void relax(const EqRelaxArgs& args) {
    if (phase_is_over(args.phase, args.within_phase)) return;
    constexpr int PIXELS = ROWS / COMPONENTS;
    const EqTile tile = args.tiles[blockIdx.x];
    const EqTarget target = args.targets[tile.target]; // a copy: no store makes the compiler load it again
    Shared& shared = *reinterpret_cast<Shared*>(shared_arena());
    const int thread = threadIdx.x;

    // Fetching a: this thread's row, and which 8 of the DEPTH channels.
    const int a_row = thread / 2, a_depth = 8 * (thread % 2);
    const int a_component = a_row / PIXELS;
    const ClassPixel a_pixel = class_pixel(target, args.images, tile.first_pixel + a_row % PIXELS);

    const int ty = thread % ROW_THREADS, tx = thread / ROW_THREADS;
    float sum[PER_THREAD][PER_THREAD] = {};

    for (uint32_t r = 0; r < target.runs; ++r) {
        const EqRun run = args.runs[target.first_run + r];
        const EqSource source = args.sources[run.source];
        const float* state = static_cast<const float*>(present_side(source, args.phase)) + a_component * source.component_stride;
        const int first_unit = run_unit(source, run, a_pixel);
        for (uint32_t t = 0; t < run.taps; ++t) {
            const EqTap tap = args.taps[run.first_tap + t];
            const float* weights = static_cast<const float*>(args.weights) + tap.weight;
            const bool a_present = tap_inside(source, run, tap, a_pixel);
            const float* a_from = state + (a_present ? first_unit + tap.shift : 0);
            for (uint32_t k0 = 0; k0 < source.channels; k0 += DEPTH) {
                const bool a_inside = a_present && k0 + a_depth < source.channels;
                for (int v = 0; v < 8; v += 4) {
                    float4 four = make_float4(0, 0, 0, 0);
                    if (a_inside) four = *reinterpret_cast<const float4*>(a_from + k0 + a_depth + v);
                    shared.a[a_depth + v][a_row] = four.x;
                    shared.a[a_depth + v + 1][a_row] = four.y;
                    shared.a[a_depth + v + 2][a_row] = four.z;
                    shared.a[a_depth + v + 3][a_row] = four.w;
                }
                if (run.downwards) { // slab rows are K
                    const int depth = thread / 8, column = 4 * (thread % 8);
                    const uint32_t k = k0 + depth, c = tile.first_channel + column;
                    float4 four = make_float4(0, 0, 0, 0);
                    if (k < source.channels && c < target.channels)
                        four = *reinterpret_cast<const float4*>(weights + static_cast<size_t>(k) * run.pitch + c);
                    *reinterpret_cast<float4*>(&shared.b[depth][column]) = four;
                } else { // slab rows are output channels
                    const int column = thread / 4, depth = 4 * (thread % 4);
                    const uint32_t k = k0 + depth, c = tile.first_channel + column;
                    float4 four = make_float4(0, 0, 0, 0);
                    if (k < source.channels && c < target.channels)
                        four = *reinterpret_cast<const float4*>(weights + static_cast<size_t>(c) * run.pitch + k);
                    shared.b[depth][column] = four.x;
                    shared.b[depth + 1][column] = four.y;
                    shared.b[depth + 2][column] = four.z;
                    shared.b[depth + 3][column] = four.w;
                }
                if (!broken(NO_BARRIER_BEFORE_SLICE_IS_USED)) __syncthreads();
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
                if (!broken(NO_BARRIER_AFTER_SLICE_IS_USED)) __syncthreads();
            }
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
        finish<FORM, COMPONENTS>(args, target, at, tile.first_channel + PER_THREAD * tx, p, change);
    }
    if constexpr (FORM != EQ_FORM_RAW) {
        const EqChange total = warp_sum(change);
        if (thread % WARP == 0) shared.changes[thread / WARP] = total;
        __syncthreads();
        if (thread == 0) args.changes[tile.change] = ordered_sum(shared.changes, THREADS / WARP, 1);
    }
}

} // namespace simt

// Registers for six blocks on a multiprocessor: with eight (64 registers a thread) some forms spill.
#define EQ_RELAX_SIMT(name, FORM, COMPONENTS) \
    EQ_KERNEL_RESIDENT(relax_simt_##name, simt::THREADS, 6, EqRelaxArgs) { simt::relax<FORM, COMPONENTS>(args); }

EQ_RELAX_SIMT(raw_1, EQ_FORM_RAW, 1)
EQ_RELAX_SIMT(raw_2, EQ_FORM_RAW, 2)
EQ_RELAX_SIMT(states_1, EQ_FORM_STATES, 1)
EQ_RELAX_SIMT(states_2, EQ_FORM_STATES, 2)
EQ_RELAX_SIMT(pair, EQ_FORM_PAIR, 2)
EQ_RELAX_SIMT(response, EQ_FORM_RESPONSE, 1)
