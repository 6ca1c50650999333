// Who does what for the weight gradient on Hopper: the roles of weight_grad_hopper.cu.
//
//      a slot    box 0 1        2 3              4 5
//                post           columns of consumer 0, of consumer 1: 64 pre channels of a tap each, 64 pixels, each shifted
//                channels, 64   by its tap
//                each, of 64
//                pixels
//
// Two blocks of a cluster take neighbouring tiles of as many slots: of the same columns, else of the same post channels, else of nothing in
// common.
#pragma once

#include "consumer.cuh"

namespace hopper {

constexpr int POST_BOXES = EQ_HOPPER_GRAD_POST / DEPTH;
constexpr int COLUMN_BOXES = EQ_HOPPER_GRAD_COLUMNS / DEPTH;
constexpr int OWN_COLUMN_BOXES = COLUMN_BOXES / CONSUMERS; // of a consumer

static_assert(POST_BOXES == 2 && OWN_COLUMN_BOXES * DEPTH == COLUMNS, "a consumer's two sums are of 64 x 128");
static_assert(POST_BOXES + COLUMN_BOXES == PIXEL_BOXES + SLAB_BOXES, "the slots are those of the relaxation");

// Where a box of columns comes from. Behind the edge's last it is a tap that there is not.
struct Columns {
    uint32_t tap;
    int channel;

    __device__ __forceinline__ Columns(const EqHopperGradEdge& edge, const EqGradTile& tile, int box)
        : tap((tile.first_column + box) / edge.boxes_per_tap),
          channel(static_cast<int>((tile.first_column + box) % edge.boxes_per_tap) * DEPTH) {}
};

template <int BLOCKS>
struct GradProducer {
    const EqHopperGradArgs& args;
    Ring<BLOCKS> ring;

    __device__ __forceinline__ const void* map(uint32_t number) const { return args.maps + number * EQ_TENSOR_MAP_BYTES; }

    // All slots of a tile: the pixels of each product, one box after another.
    __device__ __forceinline__ void fill(const EqGradTile& tile, const EqHopperGradEdge& edge) {
        uint32_t views[COLUMN_BOXES];
        int channel[COLUMN_BOXES], shift_y[COLUMN_BOXES], shift_x[COLUMN_BOXES];
#pragma unroll
        for (int i = 0; i < COLUMN_BOXES; ++i) {
            const Columns columns(edge, tile, i);
            const bool present = columns.tap < edge.taps;
            const EqHopperGradTap tap = args.taps[edge.first_tap + (present ? columns.tap : 0)];
            views[i] = tap.view;
            // Channels behind the last arrive as zeros.
            channel[i] = present ? columns.channel : static_cast<int>(edge.pre_channels);
            shift_y[i] = tap.shift_y;
            shift_x[i] = tap.shift_x;
        }
        const void* const post = map(edge.post_view);
        for (uint32_t product = 0; product < edge.products; ++product) {
#pragma unroll 1
            for (uint32_t box = 0; box < tile.pixels; ++box, ring.advance()) {
                const ptx::Corner pixels = corner(edge, tile.first_pixel + box);
                ring.announce(SLOT_BYTES);
#pragma unroll
                for (int i = 0; i < POST_BOXES; ++i) {
                    ptx::Corner at = pixels;
                    at.channel = tile.first_post + i * DEPTH;
                    at.component = edge.products - 1 - product;
                    if (broken(GRADIENT_FACTORS_OF_ONE_STATE)) at.component = product;
                    ring.fetch(i, tile.shared == EQ_SHARED_LEFT, post, at);
                }
#pragma unroll
                for (int i = 0; i < COLUMN_BOXES; ++i) {
                    ptx::Corner at = pixels;
                    at.channel = channel[i];
                    at.x += shift_x[i];
                    at.y += shift_y[i];
                    if (broken(GRADIENT_TAP_SHIFTED_BY_ONE)) ++at.y;
                    at.component = product;
                    ring.fetch(POST_BOXES + i, tile.shared == EQ_SHARED_RIGHT, map(views[i]), at);
                }
            }
        }
    }

    __device__ __forceinline__ void run() {
        for (uint32_t t = blockIdx.x; t < args.tile_count; t += gridDim.x) {
            const EqGradTile tile = args.tiles[t];
            fill(tile, args.edges[tile.edge]);
        }
    }
};

// Writes a consumer's sums to where the tile's split lies in the workspace.
__device__ __forceinline__ void store_sums(const float (&sums)[2][64], const EqHopperGradArgs& args, const EqGradTile& tile,
                                           const EqHopperGradEdge& edge, const Place& at) {
#pragma unroll
    for (int box = 0; box < OWN_COLUMN_BOXES; ++box) {
        const Columns columns(edge, tile, at.consumer * OWN_COLUMN_BOXES + box);
        if (columns.tap >= edge.taps) continue;
#pragma unroll
        for (int sum = 0; sum < POST_BOXES; ++sum)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const uint32_t post = tile.first_post + sum * BOX + at.row + 8 * half;
                if (post >= edge.post_channels) continue;
                const size_t row = static_cast<size_t>(columns.tap) * edge.post_channels + post;
                float* const to = args.workspace + tile.out + row * edge.pre_channels + columns.channel + at.pair;
#pragma unroll
                for (int j = 0; j < DEPTH / 8; ++j) {
                    if (columns.channel + j * 8 >= static_cast<int>(edge.pre_channels)) continue;
                    const int i = 4 * (box * DEPTH / 8 + j) + 2 * half;
                    store_two(to + j * 8, make_float2(sums[sum][i], sums[sum][i + 1]));
                }
            }
    }
}

template <int BLOCKS>
__device__ __forceinline__ void consume_gradient(const EqHopperGradArgs& args, Ring<BLOCKS> ring) {
    const Place at;
#pragma unroll 1
    for (uint32_t t = blockIdx.x; t < args.tile_count; t += gridDim.x) {
        const EqGradTile tile = args.tiles[t];
        const EqHopperGradEdge edge = args.edges[tile.edge];
        float sums[2][64];
        begin(sums);
        bool running = false;
        multiply<true, true>(sums, ring, edge.products * tile.pixels, running, at, 0, POST_BOXES + at.consumer * OWN_COLUMN_BOXES);
        end(ring, running, at);
        store_sums(sums, args, tile, edge, at);
    }
}

} // namespace hopper
