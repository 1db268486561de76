/* Convolutions of stride 1 whose results have the maps' size, in few multiplications: `tile` x
   `tile` results of 6 x 6 values at once, of 3 x 3 kernels 4 x 4 results (36 products for 144), of
   5 x 5 kernels 2 x 2 (36 for 100). Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional
   Neural Networks", F(4x4, 3x3) and F(2x2, 5x5), with the points 0, 1, -1, 2, -2. */

#include "products.h"

#define SEEN 6
#define PLANES (SEEN * SEEN)
#define MOST 4 /* rows and columns of results of a tile */

/* One direction of the way in: B^T of the paper, which the points alone decide. */
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
INLINE void leave(const line from[SEEN], line to[MOST], int tile) {
    line sum = from[1] + from[2], difference = from[1] - from[2];
    line far_sum = from[3] + from[4], far_difference = from[3] - from[4];
    to[0] = from[0] + sum + far_sum;
    to[1] = difference + 2 * far_difference;
    if (tile == 4) {
        to[2] = sum + 4 * far_sum;
        to[3] = difference + 8 * far_difference;
    }
    to[tile - 1] += from[5];
}

/* What the tiles of all pictures share, in order: maps there and back, by pixel. */
typedef struct {
    count rows, columns, right, number; /* tiles side by side, and of a picture */
    count inputs, image_stride, stride, outputs;
} tiling;

/* What tile `at` sees, from the channel that `maps` begin with, to a plane each. What is beyond the
   maps is zero. */
INLINE void take(const tiling *t, const float *maps, count at, float *to, count plane, int tile) {
    count image = at / t->number, number = at % t->number, before = (SEEN - tile) / 2;
    count top = number / t->right * tile - before, left = number % t->right * tile - before;
    line half[SEEN][SEEN];
    for (count wide = 0; wide < SEEN; wide++) {
        line seen[SEEN], made[SEEN];
        for (count high = 0; high < SEEN; high++) {
            count row = top + high, column = left + wide;
            int is_inside = row >= 0 && row < t->rows && column >= 0 && column < t->columns;
            const float *from =
                maps + image * t->image_stride + (row * t->columns + column) * t->stride;
            seen[high] = is_inside ? load_line(from) : (line){0};
        }
        enter(seen, made);
        for (int high = 0; high < SEEN; high++) half[high][wide] = made[high];
    }
    for (int high = 0; high < SEEN; high++) {
        line row[SEEN];
        enter(half[high], row);
        for (int wide = 0; wide < SEEN; wide++)
            store_line(to + (high * SEEN + wide) * plane, row[wide]);
    }
}

/* The results of tile `at`, from channel `c` on, of its planes, plus a bias. */
INLINE void give(const tiling *t, const float *from, count plane, line shift, count at, count c,
                 float *maps, rectifier beside, int tile) {
    count image = at / t->number, number = at % t->number;
    count top = number / t->right * tile, left = number % t->right * tile;
    count tall = least(tile, t->rows - top), broad = least(tile, t->columns - left);
    line half[MOST][SEEN];
    ALL for (int wide = 0; wide < SEEN; wide++) {
        line column[SEEN], kept[MOST];
        ALL for (int high = 0; high < SEEN; high++)
            column[high] = load_line(from + (high * SEEN + wide) * plane);
        leave(column, kept, tile);
        ALL for (int high = 0; high < tile; high++) half[high][wide] = kept[high];
    }
    ALL for (int high = 0; high < tile; high++) {
        line row[MOST];
        if (high >= tall) break;
        leave(half[high], row, tile);
        count pixel = (image * t->rows + top + high) * t->columns + left;
        ALL for (int wide = 0; wide < tile; wide++) {
            if (wide >= broad) break;
            count to = (pixel + wide) * t->outputs + c;
            store_line(maps + to, rectified_line(row[wide] + shift, &beside, to));
        }
    }
}

/* Outputs `from` to `end` of `few` tiles from `first` on, in room that stays in the cache for what
   they see and for a panel of what they make. */
INLINE void make_tiles(const tiling *t, const float *maps, const float *weight, const float *bias,
                       float *result, rectifier beside, float *room, count first, count few,
                       count from, count end, int tile) {
    count inputs = t->inputs, outputs = t->outputs;
    count seen = few * inputs + LINE, made = few * PANEL * LINE + LINE; /* no multiple of a page */
    float *panel = room + PLANES * seen;
    for (count at = 0; at < few; at++)
        for (count c = 0; c < inputs; c += LINE)
            take(t, maps + c, first + at, room + at * inputs + c, seen, tile);
    for (count c = from, wide; c < end; c += wide * LINE) {
        wide = wide_panel(end - c);
        for (count plane = 0; plane < PLANES; plane++) {
            const float *own = weight + plane * inputs * outputs + c * inputs;
            product p = {own, 0, 1, inputs, 0, inputs, wide * LINE, 0, panel + plane * made,
                         {-INFINITY, INFINITY, 0, 0, 0}};
            make_rows(&p, room + plane * seen, 0, 1, few);
        }
        for (count at = 0; at < few; at++)
            for (count v = 0; v < wide; v++) {
                line shift = bias ? load_line(bias + c + v * LINE) : (line){0};
                give(t, panel + (at * wide + v) * LINE, made, shift, first + at, c + v * LINE,
                     result, beside, tile);
            }
    }
}

/* Maps (by pixel, strides as given) to dense maps of the same size, plus a bias where there is one;
   see `rectified`. Channels are a multiple of LINE; the weight is (plane, output, input), packed.
   Each thread has `share` of the room, for `together` tiles; where there are twice as many threads
   as that makes work for, or more, some see the same tiles and make a part of the outputs each. */
KERNEL few_products(const float *restrict maps, const float *restrict weight,
                    const float *restrict bias, const float *restrict values,
                    float *restrict result, float low, float high, float *restrict room,
                    count batch, count inputs, count rows, count columns, count image_stride,
                    count stride, count outputs, count tile, count together, count share,
                    count threads) {
    rectifier beside = {low, high, values, 0, values != 0};
    count down = (rows + tile - 1) / tile, right = (columns + tile - 1) / tile;
    tiling t = {rows, columns, right, down * right, inputs, image_stride, stride, outputs};
    count tiles = batch * t.number, blocks = (tiles + together - 1) / together;
    count panels = (outputs / LINE + PANEL - 1) / PANEL;
    count parts = blocks && blocks < threads ? least(threads / blocks, panels) : 1;
    SHARED
    for (count worker = 0; worker < threads; worker++)
        for (count work = blocks * parts * worker / threads;
             work < blocks * parts * (worker + 1) / threads; work++) {
            count first = work / parts * together, few = least(together, tiles - first);
            count from = panels * (work % parts) / parts * PANEL * LINE;
            count end = least(panels * (work % parts + 1) / parts * PANEL * LINE, outputs);
            float *own = room + worker * share;
            if (tile == 4)
                make_tiles(&t, maps, weight, bias, result, beside, own, first, few, from, end, 4);
            else
                make_tiles(&t, maps, weight, bias, result, beside, own, first, few, from, end, 2);
        }
}
