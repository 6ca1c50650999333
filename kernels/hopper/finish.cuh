// What a consumer does with its sums: the formulas of epilogue.cuh, on the old state that the ring has brought.
#pragma once

#include "parts.cuh"

namespace hopper {

// First units of a thread's two rows of each sum in the layer (-1: absent), and their images.
struct Rows {
    int unit[2][2], image[2][2];
};

template <int COMPONENTS>
__device__ __forceinline__ Rows find_rows(const EqRelaxArgs& args, const EqTarget& target, const EqHopperTarget& views,
                                          const EqTile& tile, const Place& at) {
    Rows rows;
#pragma unroll
    for (int sum = 0; sum < 2; ++sum) {
        const ptx::Corner first = corner_of<COMPONENTS>(views, tile, at.consumer, sum);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = at.row + 8 * half, line = row >> views.width_bits;
            const int j = first.x + (row & ((1 << views.width_bits) - 1)), i = first.y + (line & ((1 << views.height_bits) - 1));
            const int image = first.image + (line >> views.height_bits);
            const bool present = i < target.class_height && j < target.class_width && image < static_cast<int>(args.images);
            rows.unit[sum][half] = layer_unit(target, {image, present ? i : ABSENT, j});
            rows.image[sum][half] = image;
        }
    }
    return rows;
}

// Turns sums into pre-activations.
template <int FORM, int COMPONENTS>
__device__ __forceinline__ void add_constants(float (&sums)[2][64], const EqRelaxArgs& args, const EqTarget& target, const Rows& rows,
                                              int first_channel) {
    const int last = static_cast<int>(target.channels) - first_channel;
    // Adds scale x from[row + channel] to a thread's units of one row.
    const auto add = [&](int sum, int half, const float* from, float scale) {
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j) {
            if (j * 8 >= last) continue;
            const float2 two = load_two(from + j * 8);
            float* const to = sums[sum] + 4 * j + 2 * half;
            to[0] = fused(scale, two.x, to[0]);
            to[1] = fused(scale, two.y, to[1]);
        }
    };
#pragma unroll
    for (int sum = 0; sum < 2; ++sum) {
        const int component = COMPONENTS == 2 ? sum : 0;
        const size_t of_component = component * target.component_stride;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int unit = rows.unit[sum][half];
            if (unit < 0) continue;
            const size_t at = unit + first_channel;
            if (has_constant<FORM>(component)) {
                if (target.bias) add(sum, half, target.bias + first_channel, 1.0f);
                if (target.constant) add(sum, half, target.constant + at, 1.0f);
            }
            if (target.addend) add(sum, half, target.addend + of_component + at, 1.0f);
            if (target.nudge) {
                const size_t row = static_cast<size_t>(component) * args.images + rows.image[sum][half];
                add(sum, half, target.nudge + row * target.channels + first_channel, -1.0f);
            }
        }
    }
}

// Writes the pre-activations themselves.
template <int COMPONENTS>
__device__ __forceinline__ void store_raw(const float (&sums)[2][64], const EqTarget& target, const Rows& rows, int first_channel) {
    const int last = static_cast<int>(target.channels) - first_channel;
#pragma unroll
    for (int sum = 0; sum < 2; ++sum)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            if (rows.unit[sum][half] < 0) continue;
            const size_t component = COMPONENTS == 2 ? sum : 0;
            float* const to = target.raw + component * target.component_stride + rows.unit[sum][half] + first_channel;
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; ++j)
                if (j * 8 < last) store_two(to + j * 8, make_float2(sums[sum][4 * j + 2 * half], sums[sum][4 * j + 2 * half + 1]));
        }
}

// Two neighbouring channels of a box: row `row`, piece `piece` of eight channels.
__device__ __forceinline__ Fp16* two_units(unsigned char* box, int row, int piece, const Place& at) {
    int permuted = piece ^ (row & 7);
    if (broken(SWIZZLE_FORGOTTEN)) permuted = piece;
    return reinterpret_cast<Fp16*>(box + row * ROW_BYTES + permuted * 16 + at.pair * 2);
}

// Updates one half of the channels where the old state lies. The change of each strip is added to `changes`.
template <int FORM, int COMPONENTS, int HALF, int BLOCKS>
__device__ __forceinline__ void update_state(const float (&sums)[2][64], const Update& update, const Rows& rows, const Ring<BLOCKS>& ring,
                                             const EqTarget& target, int first_channel, const Place& at,
                                             Change (&changes)[STRIPS]) {
    const int live = static_cast<int>(target.live_channels) - first_channel;
    unsigned char* const states[2] = {ring.box_memory(2 * at.consumer), ring.box_memory(2 * at.consumer + 1)};
    unsigned char* const free_states = ring.box_memory(PIXEL_BOXES + at.consumer);
#pragma unroll
    for (int piece = 0; piece < DEPTH / 8; ++piece) {
        constexpr int FIRST = HALF * DEPTH / 8;
        Change& change = changes[(FIRST + piece) * 8 / EQ_CHANGE_CHANNELS];
        const bool is_live[2] = {(FIRST + piece) * 8 < live, (FIRST + piece) * 8 + 1 < live};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = at.row + 8 * half, i = 4 * (FIRST + piece) + 2 * half;
            Fp16* const places[2] = {two_units(states[0], row, piece, at), two_units(states[1], row, piece, at)};
            float old[2][2], fresh[2][2], free_state[2];
            uint32_t responds[2] = {};
            if constexpr (FORM == EQ_FORM_RESPONSE) {
#pragma unroll
                for (int sum = 0; sum < 2; ++sum)
                    if (is_live[0] && rows.unit[sum][half] >= 0)
                        responds[sum] = responding(target, rows.unit[sum][half] + first_channel + (FIRST + piece) * 8);
            }
            load(old[0], places[0]);
            load(old[1], places[1]);
            if constexpr (FORM == EQ_FORM_PAIR) load(free_state, two_units(free_states, row, piece, at));
#pragma unroll
            for (int v = 0; v < 2; ++v) {
                if constexpr (FORM == EQ_FORM_PAIR) {
                    fresh[0][v] = old[0][v];
                    fresh[1][v] = old[1][v];
                    update.pair(fresh[0][v], fresh[1][v], sums[0][i + v], sums[1][i + v], free_state[v]);
                } else if constexpr (FORM == EQ_FORM_RESPONSE) {
                    fresh[0][v] = update.response(old[0][v], sums[0][i + v], responds[0] >> v & 1);
                    fresh[1][v] = update.response(old[1][v], sums[1][i + v], responds[1] >> v & 1);
                } else {
                    fresh[0][v] = update.state(old[0][v], sums[0][i + v]);
                    fresh[1][v] = update.state(old[1][v], sums[1][i + v]);
                }
#pragma unroll
                for (int sum = 0; sum < 2; ++sum) {
                    if (!is_live[v] || rows.unit[sum][half] < 0) fresh[sum][v] = 0.0f;
                    // Of a pair only the difference counts: it is the signal.
                    if (FORM != EQ_FORM_PAIR || sum == 1) change.add(old[sum][v], rounded(fresh[sum][v], Fp16{}));
                }
            }
            store(places[0], fresh[0]);
            store(places[1], fresh[1]);
        }
    }
}

// Sends a consumer's boxes of the slot away, and frees the slot.
template <int COMPONENTS, int BLOCKS>
__device__ __forceinline__ void send(const EqHopperArgs& args, const EqHopperTarget& views, const EqTile& tile, int channel,
                                     Ring<BLOCKS>& ring, const Place& at) {
    if (!broken(NO_FENCE_BEFORE_STORE)) ptx::fence_proxy_async();
    if (!broken(STORE_BEFORE_ALL_WROTE)) ptx::named_barrier(1 + at.consumer, WARPGROUP);
    if (at.first()) {
        const uint32_t fresh = view(views.views, old_view(*args.relax.phase) ^ 1);
        const void* const map = args.maps + fresh * EQ_TENSOR_MAP_BYTES;
#pragma unroll
        for (int sum = 0; sum < 2; ++sum) {
            ptx::Corner to = corner_of<COMPONENTS>(views, tile, at.consumer, sum);
            to.channel = channel;
            ptx::tma_store(map, to, ring.box(2 * at.consumer + sum));
        }
        ptx::tma_commit();
        if (!broken(STORE_NOT_AWAITED)) ptx::tma_wait_read();
        ring.release_written(ring.empty(), WARPGROUP / WARP);
    }
    ring.advance();
}

// The state's two halves of channels, one slot each.
template <int FORM, int COMPONENTS, int HALF, int BLOCKS>
__device__ __forceinline__ void finish_half(const float (&sums)[2][64], const EqHopperArgs& args, const EqTarget& target,
                                            const EqHopperTarget& views, const EqTile& tile, const Rows& rows, Ring<BLOCKS>& ring,
                                            const Place& at, Change (&changes)[STRIPS]) {
    ptx::mbarrier_wait(ring.full(), ring.parity);
    const Update update(target, *args.relax.phase);
    update_state<FORM, COMPONENTS, HALF>(sums, update, rows, ring, target, tile.first_channel + at.pair, at, changes);
    send<COMPONENTS>(args, views, tile, tile.first_channel + HALF * DEPTH, ring, at);
}

// What follows the products.
template <int FORM, int COMPONENTS, int BLOCKS>
__device__ __forceinline__ void finish(float (&sums)[2][64], const EqHopperArgs& args, const EqTile& tile, const EqHopperTarget& views,
                                       Ring<BLOCKS>& ring, uint32_t turn, const Place& at) {
    const EqTarget target = args.relax.targets[tile.target];
    const Rows rows = find_rows<COMPONENTS>(args.relax, target, views, tile, at);
    const int first_channel = tile.first_channel + at.pair;
    add_constants<FORM, COMPONENTS>(sums, args.relax, target, rows, first_channel);
    if constexpr (FORM == EQ_FORM_RAW) {
        store_raw<COMPONENTS>(sums, target, rows, first_channel);
    } else {
        Change changes[STRIPS];
        finish_half<FORM, COMPONENTS, 0>(sums, args, target, views, tile, rows, ring, at, changes);
        if (halves<BLOCKS>(target, tile) > 1) finish_half<FORM, COMPONENTS, 1>(sums, args, target, views, tile, rows, ring, at, changes);
        EqChange(&cells)[STRIPS][CONSUMER_WARPS] = ring.rest().changes[turn & 1];
#pragma unroll
        for (int strip = 0; strip < STRIPS; ++strip) {
            const EqChange total = warp_sum(changes[strip]);
            if (at.lane == 0) cells[strip][threadIdx.x / WARP] = total;
        }
        // The cells of the tile before are free: all have come here since they were read.
        ptx::named_barrier(1 + CONSUMERS, CONSUMERS * WARPGROUP);
        const int strip = threadIdx.x;
        if (tile.change != EQ_NO_CHANGE && strip < STRIPS && tile.first_channel + strip * EQ_CHANGE_CHANNELS < target.channels)
            args.relax.changes[tile.change + strip] = ordered_sum(cells[strip], CONSUMER_WARPS, 1);
    }
}

template <int FORM, int COMPONENTS, int BLOCKS>
__device__ __forceinline__ void consume(const EqHopperArgs& args, Ring<BLOCKS> ring) {
    const Place at;
    uint32_t turn = 0;
#pragma unroll 1
    for (uint32_t t = blockIdx.x; t < args.tiles; t += gridDim.x) {
        const EqTile tile = args.relax.tiles[t];
        if (tile.kind == EQ_TILE_NONE) break;
        const EqHopperTarget views = args.targets[tile.target];
        float sums[2][64];
        multiply_all(sums, ring, tile, views, at); // nothing, where parts are joined
        if (tile.kind == EQ_TILE_PART) {
            const bool elsewhere = broken(PART_STORED_FOR_THE_NEXT) && tile.first_step == 0;
            if (tile.change != EQ_NO_CHANGE) store_part(sums, part(args.relax, tile.first_part + elsewhere));
            continue;
        }
        add_parts(sums, args.relax, tile);
        finish<FORM, COMPONENTS>(sums, args, tile, views, ring, turn++, at);
    }
    // Before the block's shared memory goes.
    if (FORM != EQ_FORM_RAW && at.first()) ptx::tma_wait();
}

} // namespace hopper
