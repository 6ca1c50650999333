// Which pixels a tile holds, and where a tap reads them.
//
// A target is one parity class of a layer: the pixels (origin + i step). All of them have the same taps, so a tile is a
// dense piece of an implicit matrix product: rows are (image, i, j), columns are the layer's channels, and K runs over
// taps x source channels.
#pragma once

#include "device.cuh"

// A pixel of a class: image and class coordinates.
struct ClassPixel {
    int image, i, j;
    __device__ bool present() const { return i >= 0; }
};

// Row number of the pixels that a last, partial tile lacks: so far above the image that no tap reaches it.
constexpr int ABSENT = -(1 << 20);

__device__ __forceinline__ ClassPixel class_pixel(const EqTarget& target, uint32_t images, uint32_t index) {
    const uint32_t per_image = target.class_height * target.class_width;
    const uint32_t image = index / per_image;
    const uint32_t pixel = index % per_image;
    const int i = static_cast<int>(pixel / target.class_width), j = static_cast<int>(pixel % target.class_width);
    return {static_cast<int>(image), image < images ? i : ABSENT, j};
}

// First unit of a class pixel in the layer's own layout; -1 for an absent one. The host checks that a component of a state has
// less than 2^31 units.
__device__ __forceinline__ int layer_unit(const EqTarget& target, const ClassPixel& at) {
    if (!at.present()) return -1;
    int y = target.origin_y + at.i * target.step_y;
    if (broken(CLASSES_BEGIN_IN_FIRST_ROW)) y -= target.origin_y;
    const int x = target.origin_x + at.j * target.step_x;
    return ((at.image * target.height + y) * target.width + x) * static_cast<int>(target.channels);
}

// First unit of the source pixel that a run's taps are shifted from, for a class pixel; it may lie in the zero padding.
__device__ __forceinline__ int run_unit(const EqSource& source, const EqRun& run, const ClassPixel& at) {
    if (!at.present()) return 0;
    int y = at.i * run.step_y;
    if (broken(TAP_READS_NEXT_ROW)) ++y;
    const int x = at.j * run.step_x;
    return ((at.image * source.height + y) * source.width + x) * static_cast<int>(source.channels);
}

// Whether what a tap reads for a class pixel is inside of the image: the unit of the run plus the tap's shift. Else it is zero.
__device__ __forceinline__ bool tap_inside(const EqSource& source, const EqRun& run, const EqTap& tap, const ClassPixel& at) {
    int y = at.i * run.step_y + tap.offset_y, x = at.j * run.step_x + tap.offset_x;
    if (broken(TAP_READS_NEXT_ROW)) ++y;
    if (broken(LEFT_BORDER_OFF_BY_ONE)) ++x;
    return static_cast<unsigned>(y) < static_cast<unsigned>(source.height) &&
           static_cast<unsigned>(x) < static_cast<unsigned>(source.width);
}

// The side of a source that holds its present state.
__device__ __forceinline__ const void* present_side(const EqSource& source, const EqPhase* phase) {
    const uint32_t iterations = phase ? phase->iterations : 0;
    return (iterations + source.updated) & 1 ? source.sides[1] : source.sides[0];
}

// A launch that belongs to a phase does nothing once the phase is done: later iterations are no-ops.
__device__ __forceinline__ bool phase_is_over(const EqPhase* phase, uint32_t within_phase) {
    return within_phase && phase->done;
}
