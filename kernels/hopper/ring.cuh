// The ring of shared memory that producer and consumers hand slots through, and who works on which pixels.
#pragma once

#include "../epilogue.cuh"
#include "../ptx/cluster.cuh"
#include "../ptx/tma.cuh"
#include "../ptx/wgmma.cuh"
#include "defects.cuh"

namespace hopper {

constexpr int BOX = EQ_HOPPER_BOX;         // pixels of a box, rows of a product
constexpr int DEPTH = EQ_HOPPER_DEPTH;     // channels of a box
constexpr int COLUMNS = EQ_HOPPER_COLUMNS; // channels of a tile
constexpr int SLOTS = EQ_HOPPER_SLOTS;
constexpr int ROW_BYTES = DEPTH * 2;       // one swizzle span
constexpr int BOX_BYTES = BOX * ROW_BYTES;
constexpr int PIXEL_BOXES = 4;             // of a slot: two of each consumer
constexpr int SLAB_BOXES = 2;              // 64 channels each
constexpr int SLOT_BYTES = (PIXEL_BOXES + SLAB_BOXES) * BOX_BYTES;
constexpr int WARPGROUP = 128;
constexpr int CONSUMERS = 2; // warpgroups; the last one produces
constexpr int CONSUMER_WARPS = CONSUMERS * WARPGROUP / WARP;
constexpr int STRIPS = COLUMNS / EQ_CHANGE_CHANNELS;
constexpr uint32_t ALIGNMENT = 1024; // of a swizzled box: the permutation repeats after eight rows

static_assert((CONSUMERS + 1) * WARPGROUP == EQ_HOPPER_THREADS, "what the host launches");
static_assert(PIXEL_BOXES * BOX == EQ_HOPPER_ROWS, "a tile's rows are a slot's");
static_assert(ROW_BYTES == 128, "a row is one span of the swizzle");

// What lies in shared memory after the slots.
struct Rest {
    uint64_t full[SLOTS], empty[SLOTS];                 // barriers
    EqChange changes[2][STRIPS][CONSUMER_WARPS];        // of this tile and of the last one
};

// A slot holds what one step needs, each in boxes of 64 rows of 128 bytes:
//
//      box    0 1          2 3          4 5
//      K      a consumer's pixels, of   the slab, 64 output channels each     (or, downwards, the same 64 of K)
//             each of its two sums
//      state  the old state, likewise   s0 of each consumer's pixels
//
// (of the weight gradient: gradient.cuh)
//
// Two blocks of a cluster (BLOCKS = 2) go through their slots side by side. Of the boxes that both need each fetches every other one, and
// sends it to both: a slot is full when the bytes of both producers have come, and empty when the consumers of both blocks are done with it.
template <int BLOCKS>
struct Ring {
    unsigned char* memory;
    uint32_t address;
    uint32_t slot = 0, parity = 0;
    uint32_t rank = 0;

    __device__ __forceinline__ Ring() {
        unsigned char* const arena = shared_arena();
        const uint32_t padding = -shared_address(arena) & (ALIGNMENT - 1);
        memory = arena + padding;
        address = shared_address(arena) + padding;
        if constexpr (BLOCKS > 1) rank = ptx::cluster_rank();
    }
    __device__ __forceinline__ Rest& rest() const { return *reinterpret_cast<Rest*>(memory + SLOTS * SLOT_BYTES); }
    __device__ __forceinline__ uint32_t box(int number) const { return address + slot * SLOT_BYTES + number * BOX_BYTES; }
    __device__ __forceinline__ unsigned char* box_memory(int number) const {
        return memory + slot * SLOT_BYTES + number * BOX_BYTES;
    }
    __device__ __forceinline__ uint32_t full() const { return barrier(slot); }
    __device__ __forceinline__ uint32_t empty() const { return barrier(SLOTS + slot); }
    __device__ __forceinline__ uint32_t previous_empty() const { return barrier(SLOTS + (slot + SLOTS - 1) % SLOTS); }

    __device__ __forceinline__ void advance() {
        if (++slot == SLOTS) {
            slot = 0;
            parity ^= 1;
        }
    }

    // Of the producer: waits until the consumers are done with the slot, and announces what comes. They may have written there (`written`).
    __device__ __forceinline__ void announce(uint32_t bytes, bool written = false) const {
        uint32_t freed = parity ^ 1;
        if (broken(RING_PARITY_WRONG)) freed ^= 1;
        if (broken(RING_ANNOUNCES_TOO_FEW_BYTES)) bytes -= 16;
        if (BLOCKS > 1 && broken(CLUSTER_ANNOUNCES_OWN_BYTES)) bytes /= 2;
        if (BLOCKS > 1 && written)
            ptx::mbarrier_wait_acquire(empty(), freed);
        else
            ptx::mbarrier_wait(empty(), freed);
        ptx::mbarrier_arrive_expect(full(), bytes);
    }

    // Of the producer: box `number` comes to this block, or, where both need it, to both, from the first if it is an even one.
    // `at` are the coordinates as `ptx::tma_load` takes them.
    template <class... At>
    __device__ __forceinline__ void fetch(int number, bool both, const void* map, const At&... at) const {
        if constexpr (BLOCKS > 1) {
            if (both && number % BLOCKS != rank) return;
            const bool to_all = both && !broken(CLUSTER_MULTICAST_TO_ONE);
            ptx::tma_load_to(to_all ? (1 << BLOCKS) - 1 : 1 << rank, box(number), map, at..., full());
        } else {
            ptx::tma_load(box(number), map, at..., full());
        }
    }

    // Of a consumer: so many of its warps are done with the slot of this barrier, of this block and, with the copies that come to both,
    // of the other.
    __device__ __forceinline__ void release(uint32_t empty_slot, uint32_t warps) const {
        ptx::mbarrier_arrive(empty_slot, warps);
        if constexpr (BLOCKS > 1)
            if (!broken(CLUSTER_ARRIVAL_LOST)) ptx::mbarrier_arrive_other(ptx::in_block(empty_slot, rank ^ 1), warps);
    }

    // The same of a slot that its threads wrote to, and that was sent away.
    __device__ __forceinline__ void release_written(uint32_t empty_slot, uint32_t warps) const {
        ptx::mbarrier_arrive(empty_slot, warps);
        if constexpr (BLOCKS > 1) ptx::mbarrier_arrive_other_release(ptx::in_block(empty_slot, rank ^ 1), warps);
    }

    // By one thread, before all others begin.
    __device__ __forceinline__ void make() const {
        const int blocks = broken(CLUSTER_EMPTY_COUNTS_ONE) ? 1 : BLOCKS;
        for (int i = 0; i < SLOTS; ++i) {
            ptx::mbarrier_init(barrier(i), 1);                               // the producer, and the bytes that it announced
            ptx::mbarrier_init(barrier(SLOTS + i), blocks * CONSUMER_WARPS); // a lane of each warp
        }
        ptx::fence_proxy_async();
        if constexpr (BLOCKS > 1) ptx::fence_barriers_made();
    }

    // All threads, of all blocks: before the first that uses what another has made, and before the last may end.
    __device__ __forceinline__ void meet() const {
        if constexpr (BLOCKS > 1)
            ptx::meet_cluster();
        else
            __syncthreads();
    }

private:
    __device__ __forceinline__ uint32_t barrier(uint32_t number) const { return address + SLOTS * SLOT_BYTES + number * 8; }
};

// Box `number` of a target, or of an edge of the gradient: where it begins among the pixels.
template <class Boxes>
__device__ __forceinline__ ptx::Corner corner(const Boxes& target, uint32_t number) {
    const uint32_t x = number % target.boxes_x, above = number / target.boxes_x;
    const uint32_t y = above % target.boxes_y, image = above / target.boxes_y;
    return {0, static_cast<int>(x << target.width_bits), static_cast<int>(y << target.height_bits),
            static_cast<int>(image * (BOX >> (target.width_bits + target.height_bits))), 0};
}

// The pixels of sum `sum` of consumer `consumer`: with two components the sums are those of the same box.
template <int COMPONENTS>
__device__ __forceinline__ ptx::Corner corner_of(const EqHopperTarget& target, const EqTile& tile, int consumer, int sum) {
    const uint32_t first = tile.first_pixel / BOX;
    ptx::Corner at = corner(target, COMPONENTS == 2 ? first + consumer : first + 2 * consumer + sum);
    at.component = COMPONENTS == 2 ? sum : 0;
    return at;
}

// Which of a layer's two buffers holds its old state.
__device__ __forceinline__ uint32_t old_view(const EqPhase& phase) { return phase.iterations & 1; }

// One of a pair of views, without an address to be taken.
__device__ __forceinline__ uint32_t view(const uint32_t (&views)[2], uint32_t side) { return side ? views[1] : views[0]; }

// How many halves of a tile's channels the layer has; two in each block of a cluster, so that they have as many slots.
template <int BLOCKS>
__device__ __forceinline__ int halves(const EqTarget& target, const EqTile& tile) {
    return BLOCKS > 1 || target.channels - tile.first_channel > DEPTH ? 2 : 1;
}

} // namespace hopper
