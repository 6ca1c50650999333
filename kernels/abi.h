/*
 * What host and kernels share: every kernel takes exactly one of the *Args structs, by value.
 *
 * This header is the only declaration. The Rust side, src/cuda/machine/abi.rs, is generated from it by bindgen and
 * checked in; kernels/generate_abi.sh does it, and tests/abi.rs notices when the two drift apart.
 *
 * Layouts. A state is [component][image][y][x][channel], channels padded to a multiple of EQ_CHANNEL_MULTIPLE with
 * zeros. A weight is a sequence of slabs, one per tap of its kernel, each [C_post][C_pre], both padded. The output is a
 * 1x1 image, and a dense edge is a convolution whose kernel and stride are the whole lower image: there is one kind of
 * edge.
 */
#ifndef EQPROP_ABI_H
#define EQPROP_ABI_H

#include <stdint.h>

/* 16 bytes of the narrowest operand (fp16): the unit of every vector load. */
#define EQ_CHANNEL_MULTIPLE 8
/* Every parameter tensor starts at a multiple of this, so that a block of the optimizer sees one tensor. */
#define EQ_PARAMETER_BLOCK 1024
/* Position of a max-pool window's maximum: 0..3, row-major. */
#define EQ_POOL_WINDOW 4

/* Tiles of the relaxation step: rows are pixels times components, columns channels. Host and kernels both read these. */
#define EQ_RELAX_THREADS 128
#define EQ_SIMT_ROWS 64
#define EQ_SIMT_COLUMNS 32
#define EQ_MMA_ROWS 128
#define EQ_MMA_WIDE 128
#define EQ_MMA_MEDIUM 64
#define EQ_MMA_NARROW 32
/* Slices of K in shared memory: so many at once, of so many channels of one tap. */
#define EQ_MMA_STAGES 4
#define EQ_MMA_DEPTH 32
/* Taps of a run: a bit of a word each. */
#define EQ_RUN_TAPS 32
/* What a row of a tile is to the tensor-core kernel, in bytes: image, class pixel, first unit. */
#define EQ_MMA_ROW_BYTES 16
/* Channels and rows whose change is summed together, whatever the tile. */
#define EQ_CHANGE_CHANNELS 32
#define EQ_CHANGE_ROWS 32
/* Tiles of the relaxation step on Hopper: boxes of pixels, whose number is the rows of one product; slots of a ring that hold so many
 * channels of K. */
#define EQ_HOPPER_THREADS 384
#define EQ_HOPPER_ROWS 256
#define EQ_HOPPER_COLUMNS 128
#define EQ_HOPPER_BOX 64
#define EQ_HOPPER_DEPTH 64
#define EQ_HOPPER_SLOTS 4
/* Its tiles of the weight gradient: post channels, and columns. */
#define EQ_HOPPER_GRAD_POST 128
#define EQ_HOPPER_GRAD_COLUMNS 256
/* What two blocks of a cluster have in common, so that each fetches half of it for both: nothing, or all boxes of the left or of the right
 * operand. The host puts such tiles side by side. */
#define EQ_SHARED_NOTHING 0
#define EQ_SHARED_LEFT 1  /* pixels; of the weight gradient: post channels */
#define EQ_SHARED_RIGHT 2 /* a slab; of the weight gradient: columns */
/* A tensor map (CUtensorMap). */
#define EQ_TENSOR_MAP_BYTES 128
/* Tiles of the weight gradient: post by pre channels. */
#define EQ_GRAD_THREADS 128
#define EQ_GRAD_SIMT_POST 64
#define EQ_GRAD_SIMT_PRE 32
#define EQ_GRAD_WIDE 128
#define EQ_GRAD_NARROW 32

/* What a sweep does with the pre-activations that it has accumulated. */
#define EQ_FORM_RAW 0    /* write them, fp32 */
#define EQ_FORM_STATES 1 /* update each component on its own: the free state, or two nudged states */
#define EQ_FORM_PAIR 2   /* update the pair q = (s+ + s-)/2 - s0, d = (s+ - s-)/2 */
#define EQ_FORM_RESPONSE 3 /* update a vector on which the linearisation of an update acts: units that were clipped stay at 0 */

#define EQ_COST_MSE 0
#define EQ_COST_CE 1

/* An image that taps read: a layer's state, the input, or a post state sent back through its pooling. */
typedef struct EqSource {
    const void *sides[2]; /* a layer alternates between two buffers; equal where there is only one */
    uint64_t component_stride;
    int32_t height, width;
    uint32_t channels;
    uint32_t updated; /* 1: was already updated in this iteration, so its other side is the present one */
} EqSource;

/* Taps of one source that are copies of one another, shifted by whole pixels. K runs over slices of the source's channels, and within a
 * slice over the taps: pixels that one of them reads are near when the next asks for them. */
typedef struct EqRun {
    uint32_t source;
    uint32_t first_tap, taps; /* at most EQ_RUN_TAPS */
    uint32_t pitch;      /* elements from one row of a slab (one post channel) to the next */
    uint32_t downwards;  /* 0: output channels are a slab's rows; 1: its columns (the transposed convolution) */
    int32_t step_y, step_x;
    uint32_t padding;
} EqRun;

/* One tap: for the class pixel (i, j) it reads the source pixel (i step_y + offset_y, j step_x + offset_x). */
typedef struct EqTap {
    uint32_t weight; /* first element of the slab */
    int32_t shift;   /* elements of the source from pixel (i step_y, j step_x) to the one that is read */
    int32_t offset_y, offset_x;
} EqTap;

/* What tiles compute: one parity class of a layer, all of whose pixels have the same taps. */
typedef struct EqTarget {
    const float *bias;   /* [channel] or null */
    const float *constant; /* [image][y][x][channel] or null: constant part, of both states or of the mean of a pair */
    const float *addend; /* [component][image][y][x][channel] or null: what comes through max pooling */
    const float *nudge;  /* [component][image][channel] or null: what the output's pre-activation loses (cost.cu) */
    const void *free_state; /* pair: s0 */
    const uint8_t *mask; /* response: a bit for each unit of the layer, the lowest of a byte first; 1: it responds */
    void *sides[2];      /* the state; an update reads one side and writes the other */
    float *raw;          /* raw: where the pre-activations go */
    uint64_t component_stride;
    uint32_t first_run, runs;
    int32_t height, width;
    uint32_t channels;      /* padded */
    uint32_t live_channels; /* without the padding */
    int32_t class_height, class_width; /* pixels of the class per image */
    int32_t origin_y, origin_x, step_y, step_x; /* class pixel (i, j) is layer pixel (origin + i step) */
    float low, high;
} EqTarget;

/* What a block does with its tile: the whole update, or, where K is split, the sums of one part of it; what adds the parts up, in order,
 * and ends the update is a second launch. */
#define EQ_TILE_WHOLE 0
#define EQ_TILE_PART 1
#define EQ_TILE_JOIN 2
#define EQ_TILE_NONE 3 /* on Hopper: the block has no more tiles */

/* The `change` of a tile that is there for its neighbour's sake: none of its pixels are in the layer, and nothing of it is kept. */
#define EQ_NO_CHANGE 0xffffffff

/* A block's piece of a target. Its change is summed by pixel block and strip of EQ_CHANGE_CHANNELS channels: one slot each, in
 * an order that depends on the layers alone, not on how large tiles are or who works on them. */
typedef struct EqTile {
    uint32_t target;
    uint32_t first_pixel; /* among images x class pixels */
    uint32_t first_channel;
    uint32_t change; /* slot of its first strip */
    uint32_t kind;
    uint32_t first_step, steps; /* of K: slices of EQ_MMA_DEPTH (on Hopper EQ_HOPPER_DEPTH) channels of one tap, over all runs */
    uint32_t first_part, parts; /* where a part's sums go; how many follow one another, to be joined */
    uint32_t shared; /* Hopper: with the tile beside it, EQ_SHARED_* */
} EqTile;

/* Progress of a phase, kept on the device so that a phase is one submission. */
typedef struct EqPhase {
    double omega, change, tolerance; /* tolerance < 0: none */
    double smallest, previous;       /* changes so far */
    double keep; /* response: share of the old value that stays; 1 - omega, unless omega changed in the iterations gone back through */
    uint32_t iterations, done;
    uint32_t patience; /* iterations until the safeguard looks again */
    uint32_t limit;    /* done after so many iterations at the latest; 0: as many as are launched */
} EqPhase;

/* Squared norms of a strip's change and of its state after it. */
typedef struct EqChange {
    double delta, norm;
} EqChange;

typedef struct EqRelaxArgs {
    const EqTile *tiles;
    const EqTarget *targets;
    const EqRun *runs;
    const EqTap *taps;
    const EqSource *sources;
    const void *weights;
    const EqPhase *phase;
    EqChange *changes;
    float *parts; /* sums of parts, a tile's units each, in the order of its threads */
    uint32_t images;
    uint32_t form; /* chooses the kernel; kernels know their own */
    uint32_t within_phase; /* 1: do nothing once the phase is done */
    uint32_t padding;
} EqRelaxArgs;

/* A target on Hopper: EQ_HOPPER_BOX of its class pixels, width x height x images of powers of two, are a box. Boxes are numbered along
 * x, then y, then images; a tile's `first_pixel` is EQ_HOPPER_BOX times the number of its first box. Numbers of views and of slabs are
 * those of tensor maps. */
typedef struct EqHopperTarget {
    uint32_t views[2];  /* the class pixels of the state's sides: [component][image][y][x][channel] */
    uint32_t free_view; /* pair: of s0 */
    uint32_t width_bits, height_bits; /* of a box */
    uint32_t boxes_x, boxes_y;
    uint32_t slices_up; /* of K: taps upwards come first */
    uint32_t first_tap, taps;
} EqHopperTarget;

/* EqTap for Hopper: class pixel (i, j) reads pixel (i + shift_y, j + shift_x) of a view that holds the pixels which the tap can reach. */
typedef struct EqHopperTap {
    uint32_t views[2]; /* of the source's sides */
    uint32_t slabs;    /* the edge's weights: [tap][C_post][C_pre] */
    uint32_t slab;     /* which of them */
    int32_t shift_y, shift_x;
    uint32_t slices; /* of K */
    uint32_t updated; /* as in EqSource */
    uint32_t downwards;
} EqHopperTap;

typedef struct EqHopperArgs {
    EqRelaxArgs relax;
    const EqHopperTarget *targets;
    const EqHopperTap *taps;
    const uint8_t *maps; /* EQ_TENSOR_MAP_BYTES each */
    uint32_t map_count;
    uint32_t tiles; /* a block takes every so-many-th */
} EqHopperArgs;

/* beta dC/ds_L at the present output state. */
typedef struct EqNudgeArgs {
    const void *free_state; /* pair: the output of s0 */
    const void *sides[2]; /* the output's state */
    float *nudge;
    const int32_t *labels;
    const EqPhase *phase;
    uint32_t images;
    uint32_t channels, classes; /* with and without padding */
    uint32_t form;
    uint32_t cost;
    float strengths[2]; /* of the two states; pair: mean and half difference of the two */
    uint32_t padding;
} EqNudgeArgs;

typedef struct EqAdvanceArgs {
    const EqChange *changes;
    EqPhase *phase;
    double growth;     /* the safeguard steps in when the change exceeds this many times the smallest */
    double negligible; /* an omega this close to 1 becomes 1 */
    uint32_t settling; /* iterations that are left alone after a step of the safeguard */
    uint32_t count;
} EqAdvanceArgs;

/* Whether the loop of a phase goes on. */
typedef struct EqLoopArgs {
    const EqPhase *phase;
    uint64_t condition; /* of the graph's WHILE node: a cudaGraphConditionalHandle; of a played GPU, the address of a uint32_t */
} EqLoopArgs;

/* 2x2 pooling of one edge; unused pointers are null. Of a response the maxima are given, not looked for. Shapes without images: full is
 * [height][width][channels]. */
typedef struct EqPoolArgs {
    const float *full;       /* conv(s_pre), [component] */
    const float *full_free;  /* pair: conv(s0) */
    const uint8_t *argmax_free; /* pair: its maxima */
    uint8_t *argmax;         /* [component]; of a pair: of s-, then of s+ */
    float *pooled;           /* [component][image][pooled pixel][channel] */
    const void *post[2];     /* unpooling: sides of the post state */
    const void *post_free;   /* pair: the post layer of s0 */
    void *unpooled;          /* [component], as full, in the operand format */
    const EqPhase *phase;
    uint32_t images, height, width, channels;
    uint32_t components;
    uint32_t form;
    uint32_t accumulate;   /* pooled: add instead of write */
    uint32_t updated;      /* of post: as in EqSource */
    uint32_t within_phase;
    uint32_t average; /* 1: pools the mean of a window, and has no maxima */
} EqPoolArgs;

/* Elementwise passes over a layer's state, `count` units per component. */
typedef struct EqStateArgs {
    const void *free_state; /* s0 */
    const void *first;  /* q, or the first state */
    const void *second; /* d, or the second state */
    void *out_first;
    void *out_second;
    uint64_t count;
    uint32_t pair; /* 1: first and second are q and d */
    uint32_t padding;
} EqStateArgs;

/* Which units lie strictly inside of their bounds: the mask of a target. */
typedef struct EqMaskArgs {
    const void *values; /* a state, or pre-activations */
    uint8_t *mask;
    uint64_t count; /* bytes of the mask: eight units each */
    uint32_t channels, live_channels;
    float low, high;
} EqMaskArgs;

/* Per example: L2 norm of a layer's state, and how many of its units are at a bound of its activation. */
typedef struct EqStatisticsArgs {
    const void *state;
    double *norm;
    uint32_t *saturated;
    uint32_t units; /* per image, padded */
    uint32_t channels, live_channels;
    float low, high;
    uint32_t padding;
} EqStatisticsArgs;

/* Per example: energy, cost and rank of the label. */
typedef struct EqEnergyLayer {
    const void *state;
    const float *pre_activation;
    const float *constant; /* or null: the bias is all that is constant */
    const float *bias;  /* [channel] */
    uint64_t units;     /* per image, padded */
    uint64_t channels;  /* padded */
} EqEnergyLayer;

typedef struct EqOutcomeArgs {
    const EqEnergyLayer *layers;
    const void *output;
    const int32_t *labels;
    double *energy, *cost;
    int32_t *prediction, *in_top5;
    uint32_t layer_count;
    uint32_t classes, classes_padded;
    uint32_t cost_function;
} EqOutcomeArgs;

/* One edge of the weight gradient: dW[tap][post][pre] = sum_pixels m_pre d_post + d_pre m_post. Its columns are the pre channels of
 * tap 0, of tap 1, and so on: an edge of few channels has several taps in a tile. */
typedef struct EqGradEdge {
    const void *pre, *post; /* m, then d, component_stride apart */
    uint64_t pre_stride, post_stride;
    uint32_t products; /* 2: m x d + d x m; 1: m x d only (the input has no difference) */
    uint32_t pre_channels, post_channels;
    int32_t pre_height, pre_width, post_height, post_width;
    int32_t stride_y, stride_x;
    /* Tap ky kernel_width + kx: pre pixel = post pixel * stride + (ky, kx) * dilation - zero_padding. */
    uint32_t taps, kernel_width;
    int32_t zero_padding_y, zero_padding_x;
    int32_t dilation_y, dilation_x;
    uint32_t padding;
} EqGradEdge;

typedef struct EqGradTile {
    uint32_t edge;
    uint32_t first_post, first_column;
    uint32_t first_pixel, pixels; /* of the split: images x post pixels */
    uint32_t shared; /* Hopper: with the tile beside it, EQ_SHARED_* */
    uint64_t out; /* where the split's sums begin in the workspace */
} EqGradTile;

typedef struct EqGradArgs {
    const EqGradEdge *edges;
    const EqGradTile *tiles;
    float *workspace;
    uint32_t images;
    uint32_t padding;
} EqGradArgs;

/* An edge of the weight gradient on Hopper: the post pixels in boxes, as of EqHopperTarget. Its columns are boxes, too: EQ_HOPPER_DEPTH pre
 * channels of a tap, `boxes_per_tap` of them for each. */
typedef struct EqHopperGradEdge {
    uint32_t post_view; /* m, then d: [component][image][y][x][channel]; of a single product d alone */
    uint32_t width_bits, height_bits; /* of a box */
    uint32_t boxes_x, boxes_y;
    uint32_t products; /* 2: m x d + d x m; 1: m x d only */
    uint32_t post_channels, pre_channels;
    uint32_t first_tap, taps;
    uint32_t boxes_per_tap;
} EqHopperGradEdge;

/* Post pixel (i, j) meets pixel (i + shift_y, j + shift_x) of a view of the pre state: m, then d, or m alone. */
typedef struct EqHopperGradTap {
    uint32_t view;
    int32_t shift_y, shift_x;
} EqHopperGradTap;

/* A tile's `first_column`, `first_pixel` and `pixels` count boxes: those of columns and those of post pixels. */
typedef struct EqHopperGradArgs {
    const EqHopperGradEdge *edges;
    const EqHopperGradTap *taps;
    const EqGradTile *tiles;
    const uint8_t *maps; /* EQ_TENSOR_MAP_BYTES each */
    float *workspace;
    uint32_t map_count;
    uint32_t tile_count; /* a block takes every so-many-th */
} EqHopperGradArgs;

/* Bias gradients: sums of d over pixels, a block of rows at a time. */
typedef struct EqBiasTile {
    const void *half;
    uint64_t rows;
    uint64_t first_row;
    uint64_t out;
    uint32_t channels;
    uint32_t row_count;
} EqBiasTile;

typedef struct EqBiasArgs {
    const EqBiasTile *tiles;
    float *workspace;
} EqBiasArgs;

/* gradient[block] = scale * sum over splits of the workspace, in order; one per EQ_PARAMETER_BLOCK of parameters. */
typedef struct EqGatherBlock {
    uint64_t from;   /* of the first split */
    uint64_t stride; /* to the next split */
    uint32_t splits;
    uint32_t count; /* live elements of the block: the rest are zero */
} EqGatherBlock;

typedef struct EqGatherArgs {
    const EqGatherBlock *blocks;
    const float *workspace;
    float *gradient;
    double *squares; /* one partial sum per block */
    float scale;
    uint32_t accumulate; /* 1: add to the gradient instead of replacing it */
} EqGatherArgs;

typedef struct EqNormArgs {
    const double *squares;
    double *norm;
    uint32_t count;
    uint32_t padding;
} EqNormArgs;

#define EQ_POOLING_NONE 0
#define EQ_POOLING_MAX 1     /* of what is normalised */
#define EQ_POOLING_AVERAGE 2 /* before it is normalised */

/* A product of a feed-forward network with its batch normalisation; pointers are to the first channel. */
typedef struct EqBatchNorm {
    const float *convolved;     /* [image][y][x][channel] */
    const float *scale, *shift; /* gamma, beta */
    float *mean, *inverse;      /* of z, and 1/sqrt(variance + epsilon) */
    float *running_mean, *running_variance;
    float *partials;                          /* [split][2][channel]; null: not normalised, and mean and inverse are given */
    float *scale_gradient, *shift_gradient;   /* dL/dgamma, dL/dbeta */
    void *difference;                         /* dL/dconvolved, in the operand format */
    uint8_t *argmax;                          /* per unit of the state: which of its window was largest; of max pooling */
    uint32_t height, width;                   /* of what is convolved */
    uint32_t pooling;                         /* EQ_POOLING_* */
} EqBatchNorm;

/* All that meet in one layer: state = relu(sum of the normalised products). */
typedef struct EqBatchNormArgs {
    const EqBatchNorm *edges;
    void *state;           /* in the operand format */
    const float *gradient; /* dL/dstate */
    uint32_t edge_count;
    uint32_t images, height, width, channels; /* of the state; channels are padded */
    uint32_t pixels;                 /* of the largest convolution */
    uint32_t splits, rows_per_split; /* of the edge that has most; none: nothing is normalised */
    uint32_t linear;                 /* 1: negative units are kept */
    uint32_t evaluate; /* 1: by the running statistics, which stay as they are */
    float epsilon, momentum;
} EqBatchNormArgs;

/* scale dC/dlogit of the cross-entropy, in the operand format. */
typedef struct EqLossArgs {
    const float *logits; /* [image][channel] */
    const int32_t *labels;
    void *difference;
    uint32_t images;
    uint32_t channels, classes; /* with and without padding */
    float scale;
} EqLossArgs;

#define EQ_OPTIMIZER_SGD 0
#define EQ_OPTIMIZER_ADAMW 1
#define EQ_OPTIMIZER_ADAM 2
#define EQ_OPTIMIZER_HEAVY_BALL 3

typedef struct EqOptimizerArgs {
    float *parameters;
    void *packed; /* 16-bit copy, or null */
    const float *gradient;
    float *first, *second; /* moments; SGD has one */
    const double *norm;    /* of the whole gradient */
    const float *rates;    /* one per tensor */
    const uint32_t *tensor_of_block;
    uint32_t kind;
    float momentum, weight_decay;
    float beta1, beta2, epsilon;
    float correction1, correction2; /* 1/(1 - beta1^t), 1/sqrt(1 - beta2^t) */
    double max_norm, norm_epsilon;
} EqOptimizerArgs;

/* Writes the 16-bit copy of the fp32 parameters. */
typedef struct EqPackArgs {
    const float *parameters;
    void *packed;
    uint64_t count;
} EqPackArgs;

#endif
