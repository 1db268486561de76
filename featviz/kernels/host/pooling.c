/* Maximum over windows, remembering in a byte where in the window it was; the channels of a pixel
   side by side. */

#include "common.h"

/* Windows have a size (height, width), a stride (down, right) and a padding (above, left). Strides
   are those of `maps`; results are dense. As torch: the first of equals, NaN before all. */
KERNEL pooled(const float *restrict maps, float *restrict result, uint8_t *restrict places,
              count height, count width, count down, count right, count above, count left,
              count batch, count channels, count rows, count columns, count image_stride,
              count stride, count out_rows, count out_columns, count threads) {
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count reader = 0; reader < out_rows * out_columns; reader++) {
            count top = reader / out_columns * down - above;
            count first = reader % out_columns * right - left;
            float *best = result + (image * out_rows * out_columns + reader) * channels;
            uint8_t *place = places + (image * out_rows * out_columns + reader) * channels;
            int32_t which[channels];
            count highest = top > 0 ? top : 0, leftmost = first > 0 ? first : 0;
            int32_t inside = (int32_t)((highest - top) * width + leftmost - first);
            for (count c = 0; c < channels; c++) best[c] = -INFINITY, which[c] = inside;
            for (count row = highest; row < least(top + height, rows); row++)
                for (count column = leftmost; column < least(first + width, columns); column++) {
                    const float *value =
                        maps + image * image_stride + (row * columns + column) * stride;
                    int32_t here = (int32_t)((row - top) * width + column - first);
                    for (count c = 0; c < channels; c++) {
                        int is_more = (value[c] > best[c]) | (value[c] != value[c]);
                        best[c] = is_more ? value[c] : best[c];
                        which[c] = is_more ? here : which[c];
                    }
                }
            for (count c = 0; c < channels; c++) place[c] = (uint8_t)which[c];
        }
    }
}

/* The gradient at the input, whose rows and columns are given: sums over windows in order. */
KERNEL unpooled(const float *restrict gradient, const uint8_t *restrict places,
                float *restrict result, count height, count width, count down, count right,
                count above, count left, count batch, count channels, count rows, count columns,
                count image_stride, count stride, count out_rows, count out_columns,
                count threads) {
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count pixel = 0; pixel < rows * columns; pixel++) {
            count row = pixel / columns + above, column = pixel % columns + left;
            count highest = row < height ? 0 : (row - height) / down + 1;
            count leftmost = column < width ? 0 : (column - width) / right + 1;
            float *total = result + (image * rows * columns + pixel) * channels;
            for (count c = 0; c < channels; c++) total[c] = 0;
            for (count high = highest; high < least(row / down + 1, out_rows); high++)
                for (count wide = leftmost; wide < least(column / right + 1, out_columns); wide++) {
                    count reader = high * out_columns + wide;
                    const float *g = gradient + image * image_stride + reader * stride;
                    const uint8_t *at =
                        places + (image * out_rows * out_columns + reader) * channels;
                    int32_t here = (int32_t)((row - high * down) * width + column - wide * right);
                    for (count c = 0; c < channels; c++) total[c] += at[c] == here ? g[c] : 0;
                }
        }
    }
}
