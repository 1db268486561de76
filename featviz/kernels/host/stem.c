/* The gradient, at the pictures, of a convolution of few colors: at each of its results all places
   of the kernel at once, a matrix product, and these added up where they lie. */

#include "common.h"

#define TALL 6   /* results whose products are made together */
#define BROAD 2  /* vectors of a panel, see `packed` of stem.py */
#define CHUNK 60 /* results of a row between adding up: their products stay in the cache */

/* What `tall` results (`stride` apart) say of the places of one panel, summed over outputs. */
INLINE void products(const float *restrict gradient, count stride, count outputs,
                     const float *restrict panel, float *restrict to, count width, int tall) {
    floats total[TALL][BROAD];
    ALL for (int k = 0; k < tall; k++)
        ALL for (int v = 0; v < BROAD; v++) total[k][v] = whole(0);
    for (count output = 0; output < outputs; output++) {
        const float *factors = panel + output * BROAD * WIDE;
        floats first = load(factors), second = load(factors + WIDE);
        ALL for (int k = 0; k < tall; k++) {
            floats value = whole(gradient[k * stride + output]);
            total[k][0] += value * first;
            total[k][1] += value * second;
        }
    }
    ALL for (int k = 0; k < tall; k++)
        ALL for (int v = 0; v < BROAD; v++) store(to + k * width + v * WIDE, total[k][v]);
}

/* `few` results' products with all panels, to rows of `width`. */
static void all_products(const float *restrict gradient, count stride, count outputs,
                         const float *restrict panels, float *restrict to, count width, count few) {
    for (count at = 0; at < width; at += BROAD * WIDE) {
        const float *panel = panels + at * outputs;
        count done = 0;
        for (; done + TALL <= few; done += TALL)
            products(gradient + done * stride, stride, outputs, panel, to + done * width + at,
                     width, TALL);
        for (; done < few; done++)
            products(gradient + done * stride, stride, outputs, panel, to + done * width + at,
                     width, 1);
    }
}

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

/* `panels` hold the kernel as (row, column, color) in panels of BROAD * WIDE, `width` of them all
   together. Strides are those of `gradient`; the result is dense, by pixel. */
KERNEL stem_gradient(const float *restrict gradient, const float *restrict panels,
                     float *restrict result, count batch, count outputs, count out_rows,
                     count out_columns, count image_stride, count stride, count width,
                     count height, count length, count down, count apart, count above, count before,
                     count rows, count row_length, count threads) {
    if (!batch) return;
    count strips = (threads + batch - 1) / batch, tall = (rows + strips - 1) / strips;
    count room = before + row_length + out_columns * apart + width;
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
                    all_products(from, stride, outputs, panels, lines, width, few);
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
