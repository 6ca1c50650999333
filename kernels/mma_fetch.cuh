// What a block of relax_mma.cu fetches, and in which order: the operands of its K steps, then what the epilogue needs.
#pragma once

#include "epilogue.cuh"
#include "mma_tile.cuh"

namespace mma {

// Brings the operands of one K step after another, and then the state, from device memory into stages.
//
// A thread fetches pieces of a and of b that lie THREADS pieces apart in a stage, so that each has the same place in its row,
// the same permutation, and (of a) the same component: only rows differ from one to the next.
template <class T, int FORM, int COMPONENTS>
struct SliceFetcher {
    static_assert(T::ROWS_APART % 16 == 0 && T::K_APART % 8 == 0, "rows apart have the same permutation");

    const EqRelaxArgs& args;
    const EqTile tile;
    const SharedAddress arena;
    const int a_row, a_piece; // this thread's first piece of a
    const int channels;       // output channels from this tile's first one on
    uint32_t next_run;
    uint32_t skip, steps;           // K steps from the next run's first on to skip, and to fetch
    uint32_t waiting = 0;           // K steps that were fetched but not used
    uint32_t downwards_stages = 0;  // a bit for each stage whose slab is read downwards
    int state_parts = 0;            // of the state, fetched so far

    // Of the run being fetched: where this thread's pieces come from and go to, and a bit for each tap that is inside of the image,
    // or for each piece that is inside of the tile's channels.
    const Fp16* a_from = nullptr;
    int a_units[T::A_PIECES];
    uint32_t a_inside[T::A_PIECES], b_inside = 0;
    const Fp16* b_from = nullptr;
    int b_to = 0, b_k = 0, b_k_apart = 0;    // within the stage; K of the first piece, and from one piece to the next
    uint32_t b_advance = 0, b_apart = 0;     // elements from one slice to the next, and from one piece to the next
    bool downwards = false;
    const EqTap* taps = nullptr;
    uint32_t tap = 0, tap_count = 0;         // the next step's
    int left = 0;                            // channels of the next step and the slices after it
    uint32_t weight = 0;                     // of the next step's tap, loaded ahead: its slab,
    int shift = 0;                           // and how far from a_units it reads

    __device__ __forceinline__ SliceFetcher(const EqRelaxArgs& args, const EqTile& tile)
        : args(args), tile(tile), arena(shared_address(shared_arena())), a_row(threadIdx.x / PIECES),
          a_piece(threadIdx.x % PIECES), channels(static_cast<int>(args.targets[tile.target].channels - tile.first_channel)),
          next_run(args.targets[tile.target].first_run), skip(tile.first_step), steps(tile.steps) {}

    // Fills a stage with the next K step or part of the state; a stage that has nothing left to bring still counts as a group.
    __device__ __forceinline__ void next(uint32_t stage) {
        if (steps > 0) {
            if (left <= 0) begin_run();
            fetch_step(stage);
        } else if (FORM != EQ_FORM_RAW && tile.kind != EQ_TILE_PART) {
            fetch_state(stage);
        }
        cp_async_commit();
    }

private:
    __device__ __forceinline__ void begin_run() {
        const auto steps_of = [&](const EqRun& run) { return ceil_div(args.sources[run.source].channels, DEPTH) * run.taps; };
        while (skip >= steps_of(args.runs[next_run])) skip -= steps_of(args.runs[next_run++]); // where K is split
        const EqRun run = args.runs[next_run++];
        const EqSource& source = args.sources[run.source];
        const uint32_t slice = skip / run.taps;
        taps = args.taps + run.first_tap;
        tap_count = run.taps;
        tap = skip % run.taps;
        skip = 0;
        left = static_cast<int>(source.channels - slice * DEPTH);

        const int component = a_row % 16 / PER_FRAGMENT<COMPONENTS>;
        a_from = static_cast<const Fp16*>(present_side(source, args.phase)) + component * source.component_stride +
                 slice * DEPTH + a_piece * PIECE;
        ClassPixel pixels[T::A_PIECES];
#pragma unroll
        for (int i = 0; i < T::A_PIECES; ++i) {
            pixels[i] = rows<T>()[a_row + i * T::ROWS_APART].pixel;
            a_units[i] = run_unit(source, run, pixels[i]);
            a_inside[i] = 0;
        }
#pragma unroll 1
        for (uint32_t t = 0; t < tap_count; ++t) {
            const EqTap of_run = taps[t];
#pragma unroll
            for (int i = 0; i < T::A_PIECES; ++i) a_inside[i] |= (tap_inside(source, run, of_run, pixels[i]) ? 1u : 0u) << t;
        }

        b_from = static_cast<const Fp16*>(args.weights);
        downwards = run.downwards;
        b_inside = 0;
        if (downwards) {
            const int row = threadIdx.x / T::PER_ROW, piece = threadIdx.x % T::PER_ROW;
            b_from += static_cast<size_t>(row) * run.pitch + tile.first_channel + piece * PIECE;
            b_to = T::A_BYTES + flat_offset<T::COLUMNS>(row, piece);
            b_k = row;
            b_k_apart = T::K_APART;
            b_apart = T::K_APART * run.pitch;
            b_advance = DEPTH * run.pitch;
            if (piece * PIECE < channels) b_inside = ~0u;
        } else {
            b_from += static_cast<size_t>(tile.first_channel + a_row) * run.pitch + a_piece * PIECE;
            b_to = T::A_BYTES + deep_offset(a_row, a_piece);
            b_k = a_piece * PIECE;
            b_k_apart = 0;
            b_apart = T::ROWS_APART * run.pitch;
            b_advance = DEPTH;
#pragma unroll
            for (int i = 0; i < T::B_PIECES; ++i) b_inside |= (a_row + i * T::ROWS_APART < channels ? 1u : 0u) << i;
        }
        b_from += static_cast<size_t>(slice) * b_advance;
        look_ahead();
    }

    // The next step's tap: its first eight bytes, which arrive while this step's copies are issued.
    __device__ __forceinline__ void look_ahead() {
        const uint2 two = read_only(reinterpret_cast<const uint2*>(taps + tap));
        weight = two.x;
        shift = static_cast<int>(two.y);
    }

    __device__ __forceinline__ void fetch_step(uint32_t stage) {
        const SharedAddress to = arena + stage * T::STAGE_BYTES, a_to = to + deep_offset(a_row, a_piece);
        const bool in_slice = a_piece * PIECE < left;
#pragma unroll
        for (int i = 0; i < T::A_PIECES; ++i) {
            const bool present = in_slice && a_inside[i] >> tap & 1;
            // cp.async wants an aligned address even where it reads nothing: that of the first pixel.
            int unit = present ? a_units[i] + shift : 0;
            if (broken(PADDING_FETCHED_FROM_ODD_ADDRESS) && !present) unit = -1;
            cp_async_16_kept(a_to + i * T::THREADS * 16, a_from + unit, present);
        }
        const Fp16* const slab = b_from + weight;
#pragma unroll
        for (int i = 0; i < T::B_PIECES; ++i)
            cp_async_16(to + b_to + i * T::THREADS * 16, slab + i * b_apart, (b_inside >> i & 1) && b_k + i * b_k_apart < left);
        const uint32_t bit = 1u << stage;
        downwards_stages = downwards ? downwards_stages | bit : downwards_stages & ~bit;
        ++waiting;
        --steps;
        if (++tap == tap_count) {
            tap = 0;
            a_from += DEPTH;
            b_from += b_advance;
            left -= DEPTH;
        }
        look_ahead();
    }

    // Parts 0 and 1: the upper and the lower half of the rows, from the old side. Part 2: s0 of all pixels of a pair.
    __device__ __forceinline__ void fetch_state(uint32_t stage) {
        const int part = state_parts++;
        if (part == 2 && FORM != EQ_FORM_PAIR) return;
        const EqTarget& target = args.targets[tile.target];
        const bool free_state = part == 2;
        const Fp16* from = free_state ? static_cast<const Fp16*>(target.free_state) : old_side<Fp16>(target, *args.phase);
        const int piece = threadIdx.x % T::PER_ROW;
        const bool inside = piece * PIECE < channels;
#pragma unroll
        for (int i = 0; i < T::STATE_PIECES; ++i) {
            const int row = threadIdx.x / T::PER_ROW + i * T::K_APART; // within the stage
            const int of_tile = free_state ? row / 8 * 16 + row % 8 : part * T::HALF + row;
            const int unit = rows<T>()[of_tile].unit;
            const int component = free_state ? 0 : of_tile % 16 / PER_FRAGMENT<COMPONENTS>;
            const bool present = inside && unit >= 0;
            const size_t at = component * target.component_stride + unit + tile.first_channel + piece * PIECE;
            cp_async_16(arena + stage * T::STAGE_BYTES + flat_offset<T::COLUMNS>(row, piece), from + (present ? at : 0), present);
        }
    }
};

} // namespace mma
