// The pixels that one tap of an edge joins, visited DISTANCE post pixels at a time.
//
//   post pixel (image, i, j)    <->    pre pixel (image, i stride_y + offset_y, j stride_x + offset_x)
//
// A post pixel's number is divided into image, row and column once, at the beginning; after that a step is three additions, and
// two carries where a row or an image ends.
#pragma once

#include "device.cuh"

// Where column number `column` of an edge's gradient comes from: a tap, and a pre channel.
struct GradColumn {
    uint32_t tap, channel;
    int offset_y, offset_x; // of the tap

    __device__ __forceinline__ GradColumn(const EqGradEdge& edge, uint32_t column)
        : tap(column / edge.pre_channels), channel(column % edge.pre_channels),
          offset_y(static_cast<int>(tap / edge.kernel_width) * edge.dilation_y - edge.zero_padding_y),
          offset_x(static_cast<int>(tap % edge.kernel_width) * edge.dilation_x - edge.zero_padding_x) {}

    __device__ __forceinline__ bool present(const EqGradEdge& edge) const { return tap < edge.taps; }

    // Of a row (post channel) of the workspace.
    __device__ __forceinline__ size_t place(const EqGradEdge& edge, uint32_t row) const {
        return (static_cast<size_t>(tap) * edge.post_channels + row) * edge.pre_channels + channel;
    }
};

// How an edge's pre pixels are walked: the same for all threads of a block, up to the tap's offset.
template <int DISTANCE>
struct PixelWalk {
    int height, width;            // of the pre image
    int step_y, step_x;           // DISTANCE post pixels on, as far as they are rows and columns
    int end_y, end_x;             // without the tap's offset
    int stride_y;
    int step, next_row, next_image; // the same steps in units of the pre layer
    int offset_y, offset_x;

    struct At {
        int y, x; // pre pixel, possibly in the zero padding
        int unit; // of the column's channel there
    };

    __device__ __forceinline__ PixelWalk(const EqGradEdge& edge, const GradColumn& column)
        : height(edge.pre_height), width(edge.pre_width), stride_y(edge.stride_y), offset_y(column.offset_y),
          offset_x(column.offset_x) {
        const int post_pixels = edge.post_height * edge.post_width, within = DISTANCE % post_pixels;
        const int pitch = width * static_cast<int>(edge.pre_channels);
        step_y = within / edge.post_width * edge.stride_y;
        step_x = within % edge.post_width * edge.stride_x;
        end_y = edge.post_height * edge.stride_y + offset_y;
        end_x = edge.post_width * edge.stride_x + offset_x;
        step = DISTANCE / post_pixels * height * pitch + step_y * pitch + step_x * static_cast<int>(edge.pre_channels);
        next_row = edge.stride_y * pitch - edge.post_width * edge.stride_x * static_cast<int>(edge.pre_channels);
        next_image = (height - edge.post_height * edge.stride_y) * pitch;
    }

    // The pre pixel of a post pixel.
    __device__ __forceinline__ At at(const EqGradEdge& edge, const GradColumn& column, uint32_t post_pixel) const {
        const uint32_t post_pixels = edge.post_height * edge.post_width;
        const uint32_t image = post_pixel / post_pixels, within = post_pixel % post_pixels;
        const int y = static_cast<int>(within / edge.post_width) * edge.stride_y + offset_y;
        const int x = static_cast<int>(within % edge.post_width) * edge.stride_x + offset_x;
        const int pixel = (static_cast<int>(image) * height + y) * width + x;
        return {y, x, pixel * static_cast<int>(edge.pre_channels) + static_cast<int>(column.channel)};
    }

    __device__ __forceinline__ void advance(At& at) const {
        at.y += step_y;
        at.x += step_x;
        at.unit += step;
        if (at.x >= end_x) {
            at.x += offset_x - end_x;
            at.y += stride_y;
            at.unit += next_row;
        }
        if (at.y >= end_y) {
            at.y += offset_y - end_y;
            at.unit += next_image;
        }
    }

    // Whether the pixel is inside of the image.
    __device__ __forceinline__ bool inside(const At& at) const {
        return static_cast<unsigned>(at.y) < static_cast<unsigned>(height) &&
               static_cast<unsigned>(at.x) < static_cast<unsigned>(width);
    }
};
