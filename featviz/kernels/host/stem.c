/* The gradient, at the pictures, of a convolution of few colors: at each of its results all places
   of the kernel at once, a matrix product, and these added up where they lie. */

#include "products.h"

#define CHUNK 60 /* results of a row between adding up: their products stay in the cache */

/* Adds lines of `length`, `width` apart, to places `apart`. Neighbours overlap: every `turns`-th is
   added in turn, so that none waits for the one before it. */
INLINE void add(const float *restrict lines, float *restrict to, count few, count width,
                count length, count apart) {
    count vectors = (length + WIDE - 1) / WIDE, turns = (vectors * WIDE + apart - 1) / apart;
    ints last = {0};
    for (count k = 0; k < length - (vectors - 1) * WIDE; k++) last[k] = -1;
    for (count turn = 0; turn < turns; turn++)
        for (count x = turn; x < few; x += turns)
            for (count v = 0; v < vectors; v++) {
                floats more = load(lines + x * width + v * WIDE);
                if (v + 1 == vectors) more = (floats)((ints)more & last);
                float *place = to + x * apart + v * WIDE;
                store(place, load(place) + more);
            }
}

/* `places` hold the kernel as (row, column, color), packed, `width` of them with zeros at the end.
   Strides are those of `gradient`; the result is dense, by pixel. */
KERNEL stem_gradient(const float *restrict gradient, const float *restrict places,
                     float *restrict result, count batch, count outputs, count out_rows,
                     count out_columns, count image_stride, count stride, count width,
                     count height, count length, count down, count apart, count above, count before,
                     count rows, count row_length, count threads) {
    if (!batch) return;
    count strips = (threads + batch - 1) / batch, tall = (rows + strips - 1) / strips;
    count room = before + row_length + out_columns * apart + width;
    rectifier free = {-INFINITY, INFINITY, 0, 0, 0};
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count strip = 0; strip < strips; strip++) {
            count done = strip * tall, end = least(done + tall, rows);
            float sums[height][room], lines[CHUNK * width + WIDE];
            memset(sums, 0, sizeof(float) * (size_t)(height * room));
            for (count reader = 0; reader <= out_rows; reader++) {
                count top = reader < out_rows ? reader * down - above : end;
                for (; done < least(top, end); done++) { /* nobody adds to these any more */
                    float *sum = sums[done % height];
                    memcpy(result + (image * rows + done) * row_length, sum + before,
                           sizeof(float) * (size_t)row_length);
                    memset(sum, 0, sizeof(float) * (size_t)room);
                }
                if (reader == out_rows || top >= end || top + height <= done) continue;
                for (count x = 0; x < out_columns; x += CHUNK) {
                    count few = least(CHUNK, out_columns - x);
                    const float *from =
                        gradient + image * image_stride + (reader * out_columns + x) * stride;
                    product p = {places, 0, 1, outputs, 0, stride, width, 0, lines, free};
                    make_rows(&p, from, 0, 1, few);
                    for (count y = 0; y < height; y++) {
                        count row = top + y;
                        if (row < done) continue;
                        add(lines + y * length, sums[row % height] + x * apart, few, width, length,
                            apart);
                    }
                }
            }
        }
    }
}
