// Batch normalisation of the feed-forward networks (Ioffe & Szegedy 2015), fused with what surrounds it: of a layer into which
// the convolutions z_e come,
//
//   mean_e, var_e = over images and pixels       xhat_e = (z_e - mean_e) / sqrt(var_e + epsilon)
//   y = sum_e gamma_e xhat_e + beta_e            state = pool(relu(y))
//
// and back, with g = dL/dy (dL/dstate where the unit passed relu and pooling, else zero) and M pixels of all images,
//
//   dL/dbeta_e = sum g      dL/dgamma_e = sum g xhat_e
//   dL/dz_e = gamma_e / sqrt(var_e + epsilon) * (g - dL/dbeta_e / M - xhat_e dL/dgamma_e / M)
//
// Each direction is a reduction over pixels and then one pass over the units:
//
//   forward     moments (a split of the rows each) -> statistics (joins the splits) -> apply
//   backward    sums                               -> gather_sums                   -> difference
//
// Rows are pixels of all images. Reductions: COLUMNS channels, so that a warp reads 128 bytes, by LANES rows at a time. Sums
// have a fixed order. Bound by memory.
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

__device__ __forceinline__ uint32_t rows(const EqBatchNormArgs& args) { return args.images * args.height * args.width; }

// One past the last row of a split.
__device__ __forceinline__ uint32_t end_of_split(const EqBatchNormArgs& args, uint32_t split) {
    const uint32_t end = (split + 1) * args.rows_per_split;
    return end < rows(args) ? end : rows(args);
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
    const uint32_t first = part.split * args.rows_per_split;
    const uint32_t end = end_of_split(args, part.split);
    const bool present = part.channel < args.channels;
    const float* z = part.edge.convolved + part.channel;
    float first_value = 0, sum = 0, squares = 0;
    if (present) {
        first_value = z[static_cast<size_t>(first) * args.channels];
        for (uint32_t row = first + part.lane; row < end; row += LANES) {
            const float away = z[static_cast<size_t>(row) * args.channels] - first_value;
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
    const bool present = part.channel < args.channels;
    const float* partials = part.edge.partials + part.channel;
    const auto count = [&](uint32_t split) {
        return static_cast<double>(end_of_split(args, split) - split * args.rows_per_split);
    };
    double mean = 0, deviations = 0;
    if (!args.evaluate) {
        for (uint32_t split = part.lane; present && split < args.splits; split += LANES)
            mean += count(split) * partials[static_cast<size_t>(split) * 2 * args.channels];
        sum_of_lanes(mean);
        __syncthreads();
        mean = reinterpret_cast<const double*>(shared_arena())[threadIdx.x % COLUMNS] / rows(args);
        for (uint32_t split = part.lane; present && split < args.splits; split += LANES) {
            const float* of_split = partials + static_cast<size_t>(split) * 2 * args.channels;
            const double away = of_split[0] - mean;
            deviations += of_split[args.channels] + count(split) * away * away;
        }
        deviations = sum_of_lanes(deviations);
    }
    if (!present || part.lane != 0) return;
    double variance = deviations / rows(args);
    float& running_mean = part.edge.running_mean[part.channel];
    float& running_variance = part.edge.running_variance[part.channel];
    if (args.evaluate) {
        mean = running_mean;
        variance = running_variance;
    } else {
        // The running variance is that of the population: one less in the denominator.
        double unbiased = deviations / (rows(args) - 1.0);
        if (broken(RUNNING_VARIANCE_BIASED)) unbiased = variance;
        running_mean = static_cast<float>((1.0 - args.momentum) * running_mean + args.momentum * mean);
        running_variance = static_cast<float>((1.0 - args.momentum) * running_variance + args.momentum * unbiased);
    }
    part.edge.mean[part.channel] = static_cast<float>(mean);
    part.edge.inverse[part.channel] = static_cast<float>(1.0 / sqrt(variance + static_cast<double>(args.epsilon)));
}

// A pixel of the convolutions, at this thread's channels, as the passes over units see it.
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

__device__ __forceinline__ size_t at(const EqBatchNormArgs& args, uint32_t image, uint32_t y, uint32_t x, uint32_t channel) {
    return ((static_cast<size_t>(image) * args.height + y) * args.width + x) * args.channels + channel;
}

// y at one pixel: the normalised convolutions, added.
__device__ __forceinline__ void normalised(const EqBatchNormArgs& args, size_t unit, uint32_t channel, float (&y)[PER_THREAD]) {
#pragma unroll
    for (int v = 0; v < PER_THREAD; ++v) y[v] = 0;
    for (uint32_t e = 0; e < args.edge_count; ++e) {
        const EqBatchNorm& edge = args.edges[e];
        float z[PER_THREAD], mean[PER_THREAD], inverse[PER_THREAD], scale[PER_THREAD], shift[PER_THREAD];
        load(z, edge.convolved + unit);
        load(mean, edge.mean + channel);
        load(inverse, edge.inverse + channel);
        load(scale, edge.scale + channel);
        load(shift, edge.shift + channel);
#pragma unroll
        for (int v = 0; v < PER_THREAD; ++v) y[v] += scale[v] * ((z[v] - mean[v]) * inverse[v]) + shift[v];
    }
}

template <class S>
__device__ __forceinline__ void apply(const EqBatchNormArgs& args) {
    const uint32_t pool = args.argmax ? 2 : 1, height = args.height / pool, width = args.width / pool;
    const Unit unit = unit_of_thread(args, height, width);
    if (!unit.present) return;
    const size_t out = ((static_cast<size_t>(unit.image) * height + unit.y) * width + unit.x) * args.channels + unit.channel;
    float best[PER_THREAD] = {};
    if (!args.argmax) {
        normalised(args, out, unit.channel, best);
    } else { // relu does not change which unit of a window is largest; where all are cut off, nothing passes back anyway
        uint8_t argmax[PER_THREAD] = {};
        for (int i = 0; i < WINDOW; ++i) {
            float y[PER_THREAD];
            normalised(args, at(args, unit.image, 2 * unit.y + i / 2, 2 * unit.x + i % 2, unit.channel), unit.channel, y);
#pragma unroll
            for (int v = 0; v < PER_THREAD; ++v)
                if (i == 0 || y[v] > best[v]) {
                    best[v] = y[v];
                    argmax[v] = static_cast<uint8_t>(i);
                }
        }
#pragma unroll
        for (int v = 0; v < PER_THREAD; ++v) args.argmax[out + v] = argmax[v];
    }
#pragma unroll
    for (int v = 0; v < PER_THREAD; ++v) best[v] = best[v] < 0.0f ? 0.0f : best[v]; // NaN stays NaN
    store(static_cast<S*>(args.state) + out, best);
}

// dL/dy at V channels of one pixel.
template <class S, int V>
__device__ __forceinline__ void gradient_of(const EqBatchNormArgs& args, uint32_t image, uint32_t y, uint32_t x, uint32_t channel,
                                            float (&g)[V]) {
    const uint32_t pool = args.argmax ? 2 : 1, height = args.height / pool, width = args.width / pool;
#pragma unroll
    for (int v = 0; v < V; ++v) g[v] = 0;
    if (y / pool >= height || x / pool >= width) return; // the odd last row or column is in no window
    const size_t unit = ((static_cast<size_t>(image) * height + y / pool) * width + x / pool) * args.channels + channel;
    int position = y % pool * 2 + x % pool;
    if (broken(GRADIENT_GOES_TO_NEXT_OF_WINDOW)) ++position;
    const S* state = static_cast<const S*>(args.state) + unit;
#pragma unroll
    for (int v = 0; v < V; ++v) {
        const bool passed = value_of(state[v]) > 0.0f && (!args.argmax || args.argmax[unit + v] == position);
        if (passed) g[v] = args.gradient[unit + v];
    }
}

// Sums of g and of g xhat over a split's rows.
template <class S>
__device__ __forceinline__ void sums(const EqBatchNormArgs& args) {
    const Part part = part_of_block(args, args.splits);
    const uint32_t first = part.split * args.rows_per_split;
    const uint32_t end = end_of_split(args, part.split);
    const bool present = part.channel < args.channels;
    float sum = 0, product = 0;
    if (present) {
        const float mean = part.edge.mean[part.channel], inverse = part.edge.inverse[part.channel];
        for (uint32_t row = first + part.lane; row < end; row += LANES) {
            const uint32_t image = row / (args.height * args.width), within = row % (args.height * args.width);
            float g[1];
            gradient_of<S>(args, image, within / args.width, within % args.width, part.channel, g);
            const float z = part.edge.convolved[static_cast<size_t>(row) * args.channels + part.channel];
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
    const bool present = part.channel < args.channels;
    double sum = 0, product = 0;
    for (uint32_t split = part.lane; present && split < args.splits; split += LANES) {
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

// dL/dz of all convolutions of a unit.
template <class S>
__device__ __forceinline__ void difference(const EqBatchNormArgs& args) {
    const Unit unit = unit_of_thread(args, args.height, args.width);
    if (!unit.present) return;
    float g[PER_THREAD];
    gradient_of<S>(args, unit.image, unit.y, unit.x, unit.channel, g);
    const size_t here = at(args, unit.image, unit.y, unit.x, unit.channel);
    const float share = 1.0f / static_cast<float>(rows(args));
    for (uint32_t e = 0; e < args.edge_count; ++e) {
        const EqBatchNorm& edge = args.edges[e];
        float z[PER_THREAD], mean[PER_THREAD], inverse[PER_THREAD], scale[PER_THREAD], sum[PER_THREAD], product[PER_THREAD];
        load(z, edge.convolved + here);
        load(mean, edge.mean + unit.channel);
        load(inverse, edge.inverse + unit.channel);
        load(scale, edge.scale + unit.channel);
        load(sum, edge.shift_gradient + unit.channel);
        load(product, edge.scale_gradient + unit.channel);
        float out[PER_THREAD];
#pragma unroll
        for (int v = 0; v < PER_THREAD; ++v) {
            const float centred = (z[v] - mean[v]) * inverse[v];
            if (broken(NORMALISATION_PASSES_ON_VARIANCE)) product[v] = 0;
            out[v] = bounded(scale[v] * inverse[v] * (g[v] - share * (sum[v] + centred * product[v])), S());
        }
        store(static_cast<S*>(edge.difference) + here, out);
    }
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
