/* Convolutions of each channel with a kernel of its own, and their gradient at the input. */

#include "windows.h"

/* Strides are those of `maps`; `values` and results are dense. */
KERNEL depthwise(const float *restrict maps, const float *restrict weight,
                 const float *restrict bias, const float *restrict values,
                 float *restrict result, float low, float high, count height, count width,
                 count down, count right, count above, count left, count batch, count channels,
                 count rows, count columns, count image_stride, count stride, count out_rows,
                 count out_columns, count is_back, count threads) {
    rectifier beside = {low, high, values, 0, values != 0};
    window w = {weight, bias, height, width, down, right, above, left, channels, is_back != 0};
    int32_t across[out_columns * width];
    find_columns(&w, columns, out_columns, across);
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count row = 0; row < out_rows; row++) {
            count here = (image * out_rows + row) * out_columns * channels;
            const float *from_row[MOST];
            find_rows(&w, row, rows, maps + image * image_stride, 0, columns * stride, from_row);
            sum_row(&w, from_row, columns, stride, across, out_columns, result + here,
                    from_place(beside, here));
        }
    }
}
