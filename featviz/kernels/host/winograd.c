/* Convolutions with 3 x 3 kernels, stride 1 and padding 1 in few multiplications: 4 x 4 results of
   6 x 6 values at once, 36 products for 144. Source: Lavin and Gray 2016, "Fast Algorithms for
   Convolutional Neural Networks", F(4x4, 3x3), with the points 0, 1, -1, 2, -2. */

#include "common.h"

#define TILE 4
#define SEEN 6

/* One direction of the way in: B^T of the paper. */
INLINE void enter(const line from[SEEN], line to[SEEN]) {
    line even = from[4] - 4 * from[2], odd = from[3] - 4 * from[1];
    line near = from[4] - from[2], far = 2 * (from[3] - from[1]);
    to[0] = 4 * from[0] - 5 * from[2] + from[4];
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = near + far;
    to[4] = near - far;
    to[5] = 4 * from[1] - 5 * from[3] + from[5];
}

/* One direction of the way out: A^T of the paper. */
INLINE void leave(const line from[SEEN], line to[TILE]) {
    line sum = from[1] + from[2], difference = from[1] - from[2];
    line far_sum = from[3] + from[4], far_difference = from[3] - from[4];
    to[0] = from[0] + sum + far_sum;
    to[1] = difference + 2 * far_difference;
    to[2] = sum + 4 * far_sum;
    to[3] = difference + 8 * far_difference + from[5];
}

/* Maps (by pixel, strides as given) to 36 planes of (tile, channel); channels are a multiple of
   LINE. Tiles beyond the maps' end, and what tiles see beyond it, are zero. */
KERNEL winograd_enter(const float *restrict maps, float *restrict planes, count batch,
                      count channels, count rows, count columns, count image_stride, count stride,
                      count threads) {
    count down = (rows + TILE - 1) / TILE, right = (columns + TILE - 1) / TILE;
    count plane = batch * down * right * channels;
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count tile = 0; tile < down * right; tile++) {
            count top = tile / right * TILE - 1, left = tile % right * TILE - 1;
            float *to = planes + (image * down * right + tile) * channels;
            for (count c = 0; c < channels; c += LINE) {
                line seen[SEEN][SEEN], half[SEEN][SEEN];
                for (count high = 0; high < SEEN; high++)
                    for (count wide = 0; wide < SEEN; wide++) {
                        count row = top + high, column = left + wide;
                        int is_inside =
                            row >= 0 && row < rows && column >= 0 && column < columns;
                        const float *from = maps + image * image_stride + c +
                                            (row * columns + column) * stride;
                        seen[wide][high] = is_inside ? load_line(from) : (line){0};
                    }
                for (int wide = 0; wide < SEEN; wide++) {
                    line column[SEEN];
                    enter(seen[wide], column);
                    for (int high = 0; high < SEEN; high++) half[high][wide] = column[high];
                }
                for (int high = 0; high < SEEN; high++) {
                    line row[SEEN];
                    enter(half[high], row);
                    for (int wide = 0; wide < SEEN; wide++)
                        store_line(to + (high * SEEN + wide) * plane + c, row[wide]);
                }
            }
        }
    }
}

/* 36 planes of (tile, channel) to dense maps by pixel, plus a bias where there is one; see
   `rectified`. */
KERNEL winograd_leave(const float *restrict planes, const float *restrict bias,
                      const float *restrict values, float *restrict maps, float low, float high,
                      count batch, count channels, count rows, count columns, count threads) {
    rectifier beside = {low, high, values, 0, values != 0};
    count down = (rows + TILE - 1) / TILE, right = (columns + TILE - 1) / TILE;
    count plane = batch * down * right * channels;
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count tile = 0; tile < down * right; tile++) {
            count top = tile / right * TILE, left = tile % right * TILE;
            const float *from = planes + (image * down * right + tile) * channels;
            for (count c = 0; c < channels; c += LINE) {
                line half[TILE][SEEN], shift = bias ? load_line(bias + c) : (line){0};
                for (int wide = 0; wide < SEEN; wide++) {
                    line column[SEEN], kept[TILE];
                    for (int high = 0; high < SEEN; high++)
                        column[high] = load_line(from + (high * SEEN + wide) * plane + c);
                    leave(column, kept);
                    for (int high = 0; high < TILE; high++) half[high][wide] = kept[high];
                }
                for (count high = 0; high < least(TILE, rows - top); high++) {
                    line row[TILE];
                    leave(half[high], row);
                    count pixel = (image * rows + top + high) * columns + left;
                    for (count wide = 0; wide < least(TILE, columns - left); wide++) {
                        count to = (pixel + wide) * channels + c;
                        store_line(maps + to, rectified_line(row[wide] + shift, &beside, to));
                    }
                }
            }
        }
    }
}
