/* Blocks of pixels, channels of one, as pixels: what a stem's gradient is made as. */

#include "common.h"

INLINE void spread(const float *restrict from, float *restrict to, count colors, count side,
                   count up, count columns, count stride) {
    for (count column = 0; column < columns; column++)
        for (count color = 0; color < colors; color++)
            to[column * colors + color] =
                from[column / side * stride + (color * side + up) * side + column % side];
}

/* Channel (color * side + row) * side + column of a block to pixel (row, column); blocks before
   `down` and `right` are left out. Strides are those of `blocks`; the result is dense. */
KERNEL unpaired(const float *restrict blocks, float *restrict result, count batch, count colors,
                count side, count down, count right, count rows, count columns, count block_columns,
                count image_stride, count stride, count threads) {
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count row = 0; row < rows; row++) {
            count block = (down + row / side) * block_columns + right;
            const float *from = blocks + image * image_stride + block * stride;
            float *to = result + (image * rows + row) * columns * colors;
            if (colors == 3 && side == 2)
                spread(from, to, 3, 2, row % 2, columns, stride);
            else
                spread(from, to, colors, side, row % side, columns, stride);
        }
    }
}
