// The weight gradient on tensor cores: fp16 operands, fp32 sums.
//
//   dW[tap][post][pre] = sum_pixels m_pre[pixel stride + offset] d_post[pixel] + d_pre[..] m_post[pixel]
//
// Neither product subtracts anything large, so fp16 operands cost only their own rounding, 5e-4 relative per factor. One
// block computes POST x COLUMNS over a piece of the pixels (split K); gather_gradient adds the pieces in order. Columns are the
// pre channels of one tap after another, so that the eight channels of an image and its nine taps share one tile.
//
//      a[DEPTH pixels][POST], b[DEPTH pixels][COLUMNS]  both with K along the rows, as the states lie in memory:
//                                                       ldmatrix.trans turns both into fragments
//
// Shared memory: STAGES x DEPTH x (POST + COLUMNS) x 2 bytes, 64 KB for 128 x 128. Limit: tensor cores.
#include "mma_slices.cuh"
#include "pixel_walk.cuh"
#include "values.cuh"

namespace grad_mma {

using mma::DEPTH;
using mma::PIECE;
using mma::STAGES;
using mma::STEP;

template <int POST_, int COLUMNS_, int WARPS_M_, int WARPS_N_>
struct Tile {
    static constexpr int POST = POST_;
    static constexpr int COLUMNS = COLUMNS_;
    static constexpr int WARPS_N = WARPS_N_;
    static constexpr int THREADS = WARPS_M_ * WARPS_N_ * WARP;
    static constexpr int M = POST / WARPS_M_ / 16;
    static constexpr int N = COLUMNS / WARPS_N_ / 8;
    static constexpr int A_BYTES = DEPTH * POST * 2;
    static constexpr int STAGE_BYTES = A_BYTES + DEPTH * COLUMNS * 2;
    static constexpr int A_PIECES = DEPTH * POST / PIECE / THREADS;
    static constexpr int B_PIECES = DEPTH * COLUMNS / PIECE / THREADS;
    static constexpr int A_APART = THREADS / (POST / PIECE);    // rows from one of a thread's pieces to the next
    static constexpr int B_APART = THREADS / (COLUMNS / PIECE);
    static_assert(A_PIECES * THREADS * PIECE == DEPTH * POST, "threads share a's pieces evenly");
    static_assert(B_PIECES * THREADS * PIECE == DEPTH * COLUMNS, "threads share b's pieces evenly");
    static_assert(A_APART % 8 == 0 && B_APART % 8 == 0, "rows apart have the same permutation");
    static_assert(N % 2 == 0, "ldmatrix.x4 brings two column fragments at once");
};

using Wide = Tile<128, 128, 2, 2>;
using Narrow = Tile<32, 32, 2, 2>;

// Brings the slices of one K step after another. A thread's pieces lie in one column of a and of b: one channel and one tap.
template <class T>
struct SliceFetcher {
    const EqGradEdge edge; // copies: no load in the loop
    const EqGradTile tile;
    const SharedAddress arena;
    const int a_row, a_piece, b_row, b_piece; // this thread's first pieces
    const GradColumn column;
    const PixelWalk<DEPTH> walk;
    uint32_t waiting = 0; // K steps that were fetched but not used
    uint32_t product = 0;
    int left = 0;         // pixels of the product
    const Fp16* a_from = nullptr;
    const Fp16* b_from = nullptr;
    typename PixelWalk<DEPTH>::At b_at[T::B_PIECES];

    __device__ __forceinline__ explicit SliceFetcher(const EqGradArgs& args)
        : edge(args.edges[args.tiles[blockIdx.x].edge]), tile(args.tiles[blockIdx.x]), arena(shared_address(shared_arena())),
          a_row(threadIdx.x / (T::POST / PIECE)), a_piece(threadIdx.x % (T::POST / PIECE)),
          b_row(threadIdx.x / (T::COLUMNS / PIECE)), b_piece(threadIdx.x % (T::COLUMNS / PIECE)),
          column(edge, tile.first_column + b_piece * PIECE), walk(edge, column) {
        begin_product();
    }

    // Fills a stage with the next K step; a stage that has nothing left to bring still counts as a group.
    __device__ __forceinline__ void next(uint32_t stage) {
        if (product < edge.products) {
            fetch(stage);
            if (left <= DEPTH) {
                if (++product < edge.products) begin_product();
            } else {
                left -= DEPTH;
            }
        }
        cp_async_commit();
    }

private:
    __device__ __forceinline__ void begin_product() {
        left = static_cast<int>(tile.pixels);
        const size_t first_row = tile.first_pixel + a_row;
        a_from = static_cast<const Fp16*>(edge.post) + (1 - product) * edge.post_stride + first_row * edge.post_channels +
                 tile.first_post + a_piece * PIECE;
        b_from = static_cast<const Fp16*>(edge.pre) + product * edge.pre_stride;
#pragma unroll
        for (int i = 0; i < T::B_PIECES; ++i) b_at[i] = walk.at(edge, column, tile.first_pixel + b_row + i * T::B_APART);
    }

    __device__ __forceinline__ void fetch(uint32_t stage) {
        const SharedAddress a_to = arena + stage * T::STAGE_BYTES + mma::flat_offset<T::POST>(a_row, a_piece);
        const SharedAddress b_to = arena + stage * T::STAGE_BYTES + T::A_BYTES + mma::flat_offset<T::COLUMNS>(b_row, b_piece);
        const int a_left = tile.first_post + a_piece * PIECE < edge.post_channels ? left : 0;
        int b_left = column.present(edge) ? left : 0;
        if (broken(GRADIENT_READS_PIXEL_TOO_MANY)) ++b_left;
#pragma unroll
        for (int i = 0; i < T::A_PIECES; ++i)
            cp_async_16(a_to + i * T::THREADS * 16, a_from + i * T::A_APART * edge.post_channels, a_row + i * T::A_APART < a_left);
#pragma unroll
        for (int i = 0; i < T::B_PIECES; ++i) {
            const bool present = b_row + i * T::B_APART < b_left && walk.inside(b_at[i]);
            cp_async_16(b_to + i * T::THREADS * 16, b_from + (present ? b_at[i].unit : 0), present);
            walk.advance(b_at[i]);
        }
        a_from += DEPTH * edge.post_channels;
        ++waiting;
    }
};

template <class T>
__device__ __forceinline__ void weight_grad(const EqGradArgs& args) {
    SliceFetcher<T> fetcher(args);
#pragma unroll 1
    for (uint32_t stage = 0; stage < STAGES - 1; ++stage) fetcher.next(stage);

    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int warp_m = warp / T::WARPS_N, warp_n = warp % T::WARPS_N;
    float sum[T::M][T::N][4] = {};
    for (uint32_t stage = 0; fetcher.waiting > 0; stage = (stage + 1) % STAGES) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        const SharedAddress a = fetcher.arena + stage * T::STAGE_BYTES;
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
                ldmatrix_x4_trans(fb[j / 2], b + mma::flat_offset<T::COLUMNS>(k + lane % 16, piece));
            }
            mma_tile(sum, fa, fb);
        }
        --fetcher.waiting;
        fetcher.next((stage + STAGES - 1) % STAGES);
    }

    const EqGradEdge& edge = fetcher.edge;
    const EqGradTile& tile = fetcher.tile;
    const int group = lane / 4, pair = 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < T::N; ++j) {
        const GradColumn column(edge, tile.first_column + (warp_n * T::N + j) * 8 + pair);
        if (!column.present(edge)) continue;
#pragma unroll
        for (int i = 0; i < T::M; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const uint32_t row = tile.first_post + (warp_m * T::M + i) * 16 + group + 8 * half;
                if (row >= edge.post_channels) continue;
                const float two[2] = {sum[i][j][2 * half], sum[i][j][2 * half + 1]};
                store(args.workspace + tile.out + column.place(edge, row), two);
            }
    }
}

} // namespace grad_mma

EQ_KERNEL(weight_grad_mma_wide, grad_mma::Wide::THREADS, EqGradArgs) { grad_mma::weight_grad<grad_mma::Wide>(args); }
EQ_KERNEL(weight_grad_mma_narrow, grad_mma::Narrow::THREADS, EqGradArgs) {
    grad_mma::weight_grad<grad_mma::Narrow>(args);
}
