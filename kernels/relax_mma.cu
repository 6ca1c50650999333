// The relaxation step on tensor cores: fp16 operands, fp32 sums, the same interface as relax_simt.cu.
//
//   p[pixel][c] = sum_taps sum_k source[pixel * step + offset][k] * w_tap[c][k]    then epilogue.cuh
//
// One block computes ROWS x COLUMNS of the implicit product, its warps WARP_ROWS x WARP_COLUMNS each, in fragments of
// 16 x 8 (mma.m16n8k16). With two components a 16-row fragment holds eight pixels twice:
//
//      fragment      row 0..7   q of pixels 0..7          A lane holds rows g and g + 8 of columns 2t, 2t + 1, that is
//                    row 8..15  d of pixels 0..7          both components of its units: q and d meet in one thread's
//                                                         registers, and the epilogue exchanges nothing.
//
// K advances DEPTH channels of one tap at a time: the taps of one slice of a source's channels follow one another, so that the pixels which
// one of them reads are in the L1 cache when the next asks for them. cp.async brings the slices of the next STAGES - 1 steps while the tensor
// cores work on this one; pixels outside of the image and channels past the end arrive as zeros. The last STAGES - 1 stages
// bring what the epilogue needs instead: the old state and, of a pair, the free state. They arrive while the last products run.
//
//      a[ROWS][DEPTH]          pixels x source channels: what a tap reads
//      b[COLUMNS][DEPTH]       upwards: rows of the slab are output channels, K contiguous         (ldmatrix)
//      b[DEPTH][COLUMNS]       downwards: the same slab read along K, output channels contiguous   (ldmatrix.trans)
//
// so that one copy of each weight serves both directions. 16-byte pieces of a row are permuted (swizzled) by its number: the
// eight rows that one ldmatrix phase reads lie in different banks.
//
// Where K is split, a block computes the sums of a part of it, and a second launch joins the parts in their order before the epilogue.
//
// The epilogue updates the old state where it lies, each thread its own units, and sends it away in pieces of 16 bytes.
//
// Shared memory: STAGES x (ROWS + COLUMNS) x DEPTH x 2 bytes, ROWS rows and the changes; 66.2 KB for the 128 x 128 tile. Limit:
// tensor cores, except where K is short (layer 1 of the paper's networks), which is bound by memory.
#include "mma_fetch.cuh"
#include "mma_finish.cuh"
#include "mma_multiply.cuh"

namespace mma {

template <class T, int FORM, int COMPONENTS>
__device__ __forceinline__ void relax(const EqRelaxArgs& args) {
    if (phase_is_over(args.phase, args.within_phase)) return;
    // Prologue: the rows of the tile, and the first slices on their way.
    const EqTile tile = args.tiles[blockIdx.x];
    find_rows<T, COMPONENTS>(args, tile);
    __syncthreads();

    SliceFetcher<T, FORM, COMPONENTS> fetcher(args, tile);
#pragma unroll 1
    for (uint32_t stage = 0; stage < STAGES - 1; ++stage) fetcher.next(stage);

    // Loop: a K step a turn.
    const Place at = Place::of<T>();
    float sum[T::M][T::N][4] = {};
    uint32_t stage = 0;
    for (; fetcher.waiting > 0; stage = (stage + 1) % STAGES) {
        // This step's slices have arrived for every thread, and every thread is done with those of the step before: their
        // stage is free for the fetch below.
        if (!broken(COPIES_NOT_AWAITED)) cp_async_wait<STAGES - 2>();
        if (!broken(NO_BARRIER_BETWEEN_STAGES)) __syncthreads();
        multiply<T>(sum, fetcher.arena + stage * T::STAGE_BYTES, fetcher.downwards_stages >> stage & 1u, at);
        --fetcher.waiting;
        fetcher.next((stage + STAGES - 1) % STAGES);
    }

    // Epilogue: the sums of a part go out; those of a whole tile, or of the parts that are joined, end the update.
    if (tile.kind == EQ_TILE_PART) {
        store_part<T>(sum, part<T>(args, tile.first_part));
        return;
    }
    uint32_t parts = tile.parts, first_part = tile.first_part; // no parts, unless K is split
    if (broken(JOIN_FORGETS_LAST_PART) && parts > 1) --parts;
    if (broken(JOIN_READS_NEXT_PART)) ++first_part;
#pragma unroll 1
    for (uint32_t i = 0; i < parts; ++i) add_part<T>(sum, part<T>(args, first_part + i));
    finish<T, FORM, COMPONENTS>(sum, args, tile, stage, at);
}

} // namespace mma

// Blocks of a tile that a multiprocessor holds at once: without the narrow one's number nvcc aims at more of them on sm_80, and spills
// for it.
#define EQ_RELAX_MMA(name, Tile, blocks)                                                                                         \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_raw_1, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_RAW, 1>(args); }       \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_raw_2, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_RAW, 2>(args); }       \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_states_1, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_STATES, 1>(args); } \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_states_2, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_STATES, 2>(args); } \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_pair, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_PAIR, 2>(args); }         \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_response, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_RESPONSE, 1>(args); }

EQ_RELAX_MMA(wide, Wide, 2)
EQ_RELAX_MMA(medium, Medium, 2)
EQ_RELAX_MMA(narrow, Narrow, 2)
