// Batch normalisation of the feed-forward networks (Ioffe & Szegedy 2015), fused with what surrounds it: of a layer into which
// the convolutions z_e come (an edge that pools averages does so first: z_e is what it has pooled),
//
//   mean_e, var_e = over images and pixels       xhat_e = (z_e - mean_e) / sqrt(var_e + epsilon)
//   y_e = gamma_e xhat_e + beta_e                state = relu(sum_e y_e), an edge that pools maxima giving max y_e of a window
//
// and back, with g_e = dL/dy_e (dL/dstate where the unit passed relu and e's pooling, else zero) and M_e pixels of all images,
//
//   dL/dbeta_e = sum g_e      dL/dgamma_e = sum g_e xhat_e
//   dL/dz_e = gamma_e / sqrt(var_e + epsilon) * (g_e - dL/dbeta_e / M_e - xhat_e dL/dgamma_e / M_e)
//
// Each direction is a reduction over pixels and then one pass over the units:
//
//   forward     moments (a split of the rows each) -> statistics (joins the splits) -> apply
//   backward    sums                               -> gather_sums                   -> difference
//
// Rows are pixels of all images. Reductions: COLUMNS channels, so that a warp reads 128 bytes, by LANES rows at a time. Sums
// have a fixed order. An edge that is not normalised (a dense one) has no part in them. Bound by memory.
#include "values.cuh"

namespace batch_norm {

constexpr int THREADS = 256;
constexpr int COLUMNS = WARP;
constexpr int LANES = THREADS / COLUMNS;
constexpr int PER_THREAD = 2; // channels, in the passes over units
constexpr int WINDOW = EQ_POOL_WINDOW;

// Which part of a reduction a block makes: blocks run over edges, then splits (or none), then columns.
struct Part {
    const EqBatchNorm& edge;
    uint32_t split;
    uint32_t channel;
    uint32_t lane;
};

__device__ __forceinline__ Part part_of_block(const EqBatchNormArgs& args, uint32_t splits) {
    const uint32_t columns = ceil_div(args.channels, COLUMNS);
    const uint32_t split = blockIdx.x / columns % splits, edge = blockIdx.x / columns / splits;
    return {args.edges[edge], split, blockIdx.x % columns * COLUMNS + threadIdx.x % COLUMNS, threadIdx.x / COLUMNS};
}

__device__ __forceinline__ uint32_t side(uint32_t pixels, bool pooled) { return pooled ? pixels / 2 : pixels; }

// What is normalised of an edge: images x height x width rows.
struct Rows {
    uint32_t height, width, count;
};

__device__ __forceinline__ Rows rows_of(const EqBatchNormArgs& args, const EqBatchNorm& edge) {
    const bool averaged = edge.pooling == EQ_POOLING_AVERAGE;
    const uint32_t height = side(edge.height, averaged), width = side(edge.width, averaged);
    return {height, width, args.images * height * width};
}

// One past the last row of a split.
__device__ __forceinline__ uint32_t end_of_split(const EqBatchNormArgs& args, const Rows& rows, uint32_t split) {
    const uint32_t end = (split + 1) * args.rows_per_split;
    return end < rows.count ? end : rows.count;
}

__device__ __forceinline__ uint32_t splits_of(const EqBatchNormArgs& args, const Rows& rows) {
    return ceil_div(rows.count, args.rows_per_split);
}

__device__ __forceinline__ size_t offset(uint32_t channels, uint32_t height, uint32_t width, uint32_t image, uint32_t y, uint32_t x) {
    return ((static_cast<size_t>(image) * height + y) * width + x) * channels;
}

// z at V channels of one normalised pixel.
template <int V>
__device__ __forceinline__ void z_at(const EqBatchNormArgs& args, const EqBatchNorm& edge, uint32_t image, uint32_t y, uint32_t x,
                                     uint32_t channel, float (&z)[V]) {
    if (edge.pooling != EQ_POOLING_AVERAGE) {
        load(z, edge.convolved + offset(args.channels, edge.height, edge.width, image, y, x) + channel);
        return;
    }
#pragma unroll
    for (int v = 0; v < V; ++v) z[v] = 0;
    for (int i = 0; i < WINDOW; ++i) {
        float part[V];
        load(part, edge.convolved + offset(args.channels, edge.height, edge.width, image, 2 * y + i / 2, 2 * x + i % 2) + channel);
#pragma unroll
        for (int v = 0; v < V; ++v) z[v] += part[v] * (1.0f / WINDOW);
    }
}

// The same of one channel, by the row.
__device__ __forceinline__ float z_of_row(const EqBatchNormArgs& args, const EqBatchNorm& edge, const Rows& rows, uint32_t row,
                                          uint32_t channel) {
    if (edge.pooling != EQ_POOLING_AVERAGE) return edge.convolved[static_cast<size_t>(row) * args.channels + channel];
    const uint32_t image = row / (rows.height * rows.width), within = row % (rows.height * rows.width);
    float z[1];
    z_at(args, edge, image, within / rows.width, within % rows.width, channel, z);
    return z[0];
}

// Adds what the lanes of a column hold; the first lane gets the sum.
template <class T>
__device__ __forceinline__ T sum_of_lanes(T value) {
    auto* values = reinterpret_cast<T*>(shared_arena());
    if (!broken(NO_BARRIER_BEFORE_LANES_MEET)) __syncthreads();
    values[threadIdx.x] = value;
    for (unsigned half = LANES / 2; half > 0; half /= 2) {
        if (!broken(NO_BARRIER_WHILE_LANES_MEET)) __syncthreads();
        if (threadIdx.x < half * COLUMNS) values[threadIdx.x] += values[threadIdx.x + half * COLUMNS];
    }
    return values[threadIdx.x];
}

// Mean and sum of squared deviations of a split's rows. Sums are of z minus the split's first value, so that nothing cancels
// where the mean is large.
__device__ __forceinline__ void moments(const EqBatchNormArgs& args) {
    const Part part = part_of_block(args, args.splits);
    const Rows rows = rows_of(args, part.edge);
    if (!part.edge.partials || part.split >= splits_of(args, rows)) return;
    const uint32_t first = part.split * args.rows_per_split;
    const uint32_t end = end_of_split(args, rows, part.split);
    const bool present = part.channel < args.channels;
    float first_value = 0, sum = 0, squares = 0;
    if (present) {
        first_value = z_of_row(args, part.edge, rows, first, part.channel);
        for (uint32_t row = first + part.lane; row < end; row += LANES) {
            const float away = z_of_row(args, part.edge, rows, row, part.channel) - first_value;
            sum += away;
            squares += away * away;
        }
    }
    sum = sum_of_lanes(sum);
    squares = sum_of_lanes(squares);
    if (!present || part.lane != 0) return;
    const float count = static_cast<float>(end - first);
    float* out = part.edge.partials + static_cast<size_t>(part.split) * 2 * args.channels + part.channel;
    out[0] = first_value + sum / count;
    out[args.channels] = fmaxf(squares - sum * sum / count, 0.0f);
}

// Joins the splits: sum of squared deviations = those within the splits + those of the splits' means.
__device__ __forceinline__ void statistics(const EqBatchNormArgs& args) {
    const Part part = part_of_block(args, 1);
    if (!part.edge.partials) return;
    const Rows rows = rows_of(args, part.edge);
    const uint32_t splits = splits_of(args, rows);
    const bool present = part.channel < args.channels;
    const float* partials = part.edge.partials + part.channel;
    const auto count = [&](uint32_t split) {
        return static_cast<double>(end_of_split(args, rows, split) - split * args.rows_per_split);
    };
    double mean = 0, deviations = 0;
    if (!args.evaluate) {
        for (uint32_t split = part.lane; present && split < splits; split += LANES)
            mean += count(split) * partials[static_cast<size_t>(split) * 2 * args.channels];
        sum_of_lanes(mean);
        __syncthreads();
        mean = reinterpret_cast<const double*>(shared_arena())[threadIdx.x % COLUMNS] / rows.count;
        for (uint32_t split = part.lane; present && split < splits; split += LANES) {
            const float* of_split = partials + static_cast<size_t>(split) * 2 * args.channels;
            const double away = of_split[0] - mean;
            deviations += of_split[args.channels] + count(split) * away * away;
        }
        deviations = sum_of_lanes(deviations);
    }
    if (!present || part.lane != 0) return;
    double variance = deviations / rows.count;
    float& running_mean = part.edge.running_mean[part.channel];
    float& running_variance = part.edge.running_variance[part.channel];
    if (args.evaluate) {
        mean = running_mean;
        variance = running_variance;
    } else {
        // The running variance is that of the population: one less in the denominator.
        double unbiased = deviations / (rows.count > 1 ? rows.count - 1.0 : 1.0);
        if (broken(RUNNING_VARIANCE_BIASED)) unbiased = variance;
        running_mean = static_cast<float>((1.0 - args.momentum) * running_mean + args.momentum * mean);
        running_variance = static_cast<float>((1.0 - args.momentum) * running_variance + args.momentum * unbiased);
    }
    part.edge.mean[part.channel] = static_cast<float>(mean);
    part.edge.inverse[part.channel] = static_cast<float>(1.0 / sqrt(variance + static_cast<double>(args.epsilon)));
}

// A pixel of images of this size, at this thread's channels, as the passes over units see it.
struct Unit {
    bool present;
    uint32_t image, y, x, channel;
};

__device__ __forceinline__ Unit unit_of_thread(const EqBatchNormArgs& args, uint32_t height, uint32_t width) {
    const uint32_t per_pixel = args.channels / PER_THREAD;
    const uint64_t index = static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x;
    const uint64_t pixel = index / per_pixel;
    const uint32_t image = pixel / (height * width), within = pixel % (height * width);
    return {image < args.images, image, within / width, within % width,
            static_cast<uint32_t>(index % per_pixel) * PER_THREAD};
}

// y_e at one normalised pixel.
__device__ __forceinline__ void normalised(const EqBatchNormArgs& args, const EqBatchNorm& edge, uint32_t image, uint32_t y, uint32_t x,
                                           uint32_t channel, float (&out)[PER_THREAD]) {
    float z[PER_THREAD], mean[PER_THREAD], inverse[PER_THREAD], scale[PER_THREAD], shift[PER_THREAD];
    z_at(args, edge, image, y, x, channel, z);
    load(mean, edge.mean + channel);
    load(inverse, edge.inverse + channel);
    load(scale, edge.scale + channel);
    load(shift, edge.shift + channel);
#pragma unroll
    for (int v = 0; v < PER_THREAD; ++v) out[v] = scale[v] * ((z[v] - mean[v]) * inverse[v]) + shift[v];
}

// The largest y_e of a window, and which it is.
__device__ __forceinline__ void largest(const EqBatchNormArgs& args, const EqBatchNorm& edge, const Unit& unit, size_t out,
                                        float (&best)[PER_THREAD]) {
    uint8_t argmax[PER_THREAD] = {};
    for (int i = 0; i < WINDOW; ++i) {
        float y[PER_THREAD];
        normalised(args, edge, unit.image, 2 * unit.y + i / 2, 2 * unit.x + i % 2, unit.channel, y);
#pragma unroll
        for (int v = 0; v < PER_THREAD; ++v)
            if (i == 0 || y[v] > best[v]) {
                best[v] = y[v];
                argmax[v] = static_cast<uint8_t>(i);
            }
    }
#pragma unroll
    for (int v = 0; v < PER_THREAD; ++v) edge.argmax[out + v] = argmax[v];
}

template <class S>
__device__ __forceinline__ void apply(const EqBatchNormArgs& args) {
    const Unit unit = unit_of_thread(args, args.height, args.width);
    if (!unit.present) return;
    const size_t out = offset(args.channels, args.height, args.width, unit.image, unit.y, unit.x) + unit.channel;
    float sum[PER_THREAD] = {};
    for (uint32_t e = 0; e < args.edge_count; ++e) {
        const EqBatchNorm& edge = args.edges[e];
        float y[PER_THREAD] = {};
        if (edge.pooling == EQ_POOLING_MAX)
            largest(args, edge, unit, out, y);
        else
            normalised(args, edge, unit.image, unit.y, unit.x, unit.channel, y);
#pragma unroll
        for (int v = 0; v < PER_THREAD; ++v) sum[v] += y[v];
    }
#pragma unroll
    for (int v = 0; v < PER_THREAD; ++v)
        if (!args.linear) sum[v] = sum[v] < 0.0f ? 0.0f : sum[v]; // NaN stays NaN
    store(static_cast<S*>(args.state) + out, sum);
}

// dL/dy_e at V channels of one normalised pixel.
template <class S, int V>
__device__ __forceinline__ void gradient_of(const EqBatchNormArgs& args, const EqBatchNorm& edge, uint32_t image, uint32_t y, uint32_t x,
                                            uint32_t channel, float (&g)[V]) {
    const bool pooled = edge.pooling == EQ_POOLING_MAX;
#pragma unroll
    for (int v = 0; v < V; ++v) g[v] = 0;
    int position = pooled ? y % 2 * 2 + x % 2 : 0;
    if (broken(GRADIENT_GOES_TO_NEXT_OF_WINDOW)) ++position;
    y = side(y, pooled);
    x = side(x, pooled);
    if (y >= args.height || x >= args.width) return; // the odd last row or column is in no window
    const size_t unit = offset(args.channels, args.height, args.width, image, y, x) + channel;
    const S* state = static_cast<const S*>(args.state) + unit;
#pragma unroll
    for (int v = 0; v < V; ++v) {
        const bool active = args.linear || value_of(state[v]) > 0.0f;
        const bool passed = active && (!pooled || edge.argmax[unit + v] == position);
        if (passed) g[v] = args.gradient[unit + v];
    }
}

// Sums of g and of g xhat over a split's rows.
template <class S>
__device__ __forceinline__ void sums(const EqBatchNormArgs& args) {
    const Part part = part_of_block(args, args.splits);
    const Rows rows = rows_of(args, part.edge);
    if (!part.edge.partials || part.split >= splits_of(args, rows)) return;
    const uint32_t first = part.split * args.rows_per_split;
    const uint32_t end = end_of_split(args, rows, part.split);
    const bool present = part.channel < args.channels;
    float sum = 0, product = 0;
    if (present) {
        const float mean = part.edge.mean[part.channel], inverse = part.edge.inverse[part.channel];
        for (uint32_t row = first + part.lane; row < end; row += LANES) {
            const uint32_t image = row / (rows.height * rows.width), within = row % (rows.height * rows.width);
            float g[1];
            gradient_of<S>(args, part.edge, image, within / rows.width, within % rows.width, part.channel, g);
            const float z = z_of_row(args, part.edge, rows, row, part.channel);
            sum += g[0];
            product += g[0] * ((z - mean) * inverse);
        }
    }
    sum = sum_of_lanes(sum);
    product = sum_of_lanes(product);
    if (!present || part.lane != 0) return;
    float* out = part.edge.partials + static_cast<size_t>(part.split) * 2 * args.channels + part.channel;
    out[0] = sum;
    out[args.channels] = product;
}

__device__ __forceinline__ void gather_sums(const EqBatchNormArgs& args) {
    const Part part = part_of_block(args, 1);
    if (!part.edge.partials) return;
    const uint32_t splits = splits_of(args, rows_of(args, part.edge));
    const bool present = part.channel < args.channels;
    double sum = 0, product = 0;
    for (uint32_t split = part.lane; present && split < splits; split += LANES) {
        const float* of_split = part.edge.partials + static_cast<size_t>(split) * 2 * args.channels + part.channel;
        sum += of_split[0];
        product += of_split[args.channels];
    }
    sum = sum_of_lanes(sum);
    product = sum_of_lanes(product);
    if (!present || part.lane != 0) return;
    part.edge.shift_gradient[part.channel] = static_cast<float>(sum);
    part.edge.scale_gradient[part.channel] = static_cast<float>(product);
}

// dL/dconvolved of one edge at this thread's unit of it.
template <class S>
__device__ __forceinline__ void difference_of(const EqBatchNormArgs& args, const EqBatchNorm& edge) {
    const Unit unit = unit_of_thread(args, edge.height, edge.width);
    if (!unit.present) return;
    const bool averaged = edge.pooling == EQ_POOLING_AVERAGE;
    const Rows rows = rows_of(args, edge);
    const uint32_t y = side(unit.y, averaged), x = side(unit.x, averaged);
    float out[PER_THREAD] = {};
    if (y < rows.height && x < rows.width) { // the odd last row or column is in no window
        float g[PER_THREAD], z[PER_THREAD], mean[PER_THREAD], inverse[PER_THREAD], scale[PER_THREAD];
        float sum[PER_THREAD] = {}, product[PER_THREAD] = {};
        gradient_of<S>(args, edge, unit.image, y, x, unit.channel, g);
        z_at(args, edge, unit.image, y, x, unit.channel, z);
        load(mean, edge.mean + unit.channel);
        load(inverse, edge.inverse + unit.channel);
        load(scale, edge.scale + unit.channel);
        if (edge.partials) {
            load(sum, edge.shift_gradient + unit.channel);
            load(product, edge.scale_gradient + unit.channel);
        }
        const float share = 1.0f / static_cast<float>(rows.count), part = averaged ? 1.0f / WINDOW : 1.0f;
#pragma unroll
        for (int v = 0; v < PER_THREAD; ++v) {
            const float centred = (z[v] - mean[v]) * inverse[v];
            if (broken(NORMALISATION_PASSES_ON_VARIANCE)) product[v] = 0;
            out[v] = bounded(part * scale[v] * inverse[v] * (g[v] - share * (sum[v] + centred * product[v])), S());
        }
    }
    const size_t here = offset(args.channels, edge.height, edge.width, unit.image, unit.y, unit.x) + unit.channel;
    store(static_cast<S*>(edge.difference) + here, out);
}

template <class S>
__device__ __forceinline__ void difference(const EqBatchNormArgs& args) {
    for (uint32_t e = 0; e < args.edge_count; ++e) difference_of<S>(args, args.edges[e]);
}

} // namespace batch_norm

EQ_KERNEL(batch_norm_moments, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::moments(args); }
EQ_KERNEL(batch_norm_statistics, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::statistics(args); }
EQ_KERNEL(batch_norm_apply_f32, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::apply<float>(args); }
EQ_KERNEL(batch_norm_apply_f16, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::apply<Fp16>(args); }
EQ_KERNEL(batch_norm_sums_f32, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::sums<float>(args); }
EQ_KERNEL(batch_norm_sums_f16, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::sums<Fp16>(args); }
EQ_KERNEL(batch_norm_gather_sums, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::gather_sums(args); }
EQ_KERNEL(batch_norm_difference_f32, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::difference<float>(args); }
EQ_KERNEL(batch_norm_difference_f16, batch_norm::THREADS, EqBatchNormArgs) { batch_norm::difference<Fp16>(args); }
