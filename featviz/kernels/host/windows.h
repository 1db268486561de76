/* Sums over windows of each channel's own values, there or back; the channels of a pixel side by
   side. */

#ifndef FEATVIZ_WINDOWS_H
#define FEATVIZ_WINDOWS_H

#include "common.h"

#define MOST 81 /* places of a window: MOST_PLACES of layout.py */
#define MANY 2  /* results, and vectors of their channels, that are made together */
#define BROAD 4

/* A window, the factors of its places (place, channel), and its turns. */
typedef struct {
    const float *weight, *bias;
    count height, width, down, right, above, left, channels;
    int is_back;
    uint8_t is_used[MOST];
} window;

/* Places whose factors are all zero, with which a kernel takes in a padding, are left out. */
INLINE void find_used(window *w) {
    for (count place = 0; place < w->height * w->width; place++) {
        w->is_used[place] = 0;
        for (count c = 0; c < w->channels; c++)
            w->is_used[place] |= w->weight[place * w->channels + c] != 0;
    }
}

/* Which value result `at` sees through a place of the window in one direction, or, on the way back,
   which result sees value `at` through it; -1 where there is none of `length`. */
INLINE int32_t seen(count at, count place, count stride, count padding, count length, int is_back) {
    count there = is_back ? at + padding - place : at * stride - padding + place;
    if (is_back && (there < 0 || there % stride)) return -1;
    there = is_back ? there / stride : there;
    return there >= 0 && there < length ? (int32_t)there : -1;
}

/* For each of a row's results and each column of the window: the column of what is summed. */
INLINE void find_columns(const window *w, count columns, count out_columns, int32_t *across) {
    for (count column = 0; column < out_columns; column++)
        for (count x = 0; x < w->width; x++)
            across[column * w->width + x] =
                seen(column, x, w->right, w->left, columns, w->is_back);
}

/* Where the rows lie that a row of results sees, 0 for those beyond; `maps` begin with row `top`,
   `step` apart. */
INLINE void find_rows(const window *w, count row, count rows, const float *maps, count top,
                      count step, const float **from_row) {
    for (count y = 0; y < w->height; y++) {
        count at = seen(row, y, w->down, w->above, rows, w->is_back);
        from_row[y] = at < 0 ? 0 : maps + (at - top) * step;
    }
}

/* What the results of a row share. */
typedef struct {
    const float *bias;
    count from_step, to_step; /* between results, in what is summed and in what is made */
    count channels;
    float *to;
    rectifier beside;
} sum;

/* The sums of `many` results over `taps` places, so far from `from`, from channel `c` on for `wide`
   vectors of channels; `few` numbers of the last one where it is not whole. They lie `at` places
   from the first of their row. */
INLINE void sums(const sum *s, const float *from, const count *far, const float *const *weight,
                 count taps, count at, count c, int many, int wide, count few) {
    floats total[MANY][BROAD];
    const float *values = s->beside.values;
    ALL for (int k = 0; k < many; k++)
        ALL for (int v = 0; v < wide; v++) {
            count next = at + c + (k + many) * s->to_step + v * WIDE;
            if (v % 2 == 0) { /* two vectors are a line of the cache */
                __builtin_prefetch(s->to + next, 1);
                if (values) __builtin_prefetch(values + next);
            }
            total[k][v] = s->bias ? load_few(s->bias + c + v * WIDE, few) : whole(0);
        }
    for (count tap = 0; tap < taps; tap++) {
        const float *here = from + far[tap] + c, *factors = weight[tap] + c;
        ALL for (int v = 0; v < wide; v++) {
            floats factor = load_few(factors + v * WIDE, few);
            ALL for (int k = 0; k < many; k++)
                total[k][v] = fused(total[k][v], factor,
                                     load_few(here + k * s->from_step + v * WIDE, few));
        }
    }
    ALL for (int k = 0; k < many; k++)
        ALL for (int v = 0; v < wide; v++) {
            count place = at + c + k * s->to_step + v * WIDE;
            store_few(s->to + place, rectified(total[k][v], &s->beside, place, few), few);
        }
}

/* All channels of them. */
INLINE void all_sums(const sum *s, const float *from, const count *far, const float *const *weight,
                     count taps, count at, int many) {
    count c = 0, channels = s->channels;
    for (; c + BROAD * WIDE <= channels; c += BROAD * WIDE)
        sums(s, from, far, weight, taps, at, c, many, BROAD, WIDE);
    for (; c + WIDE <= channels; c += WIDE) sums(s, from, far, weight, taps, at, c, many, 1, WIDE);
    if (c < channels) sums(s, from, far, weight, taps, at, c, many, 1, channels - c);
}

/* A row of results, from the rows of what is summed that its window sees (0 for none), `stride`
   between their pixels. */
APART void sum_row(const window *w, const float *const *from_row, count stride,
                           const int32_t *across, count out_columns, float *to,
                           rectifier beside) {
    count apart = w->is_back ? w->right : 1; /* results side by side in this see values that are */
    count from_step = (w->is_back ? 1 : w->right) * stride;
    sum s = {w->bias, from_step, apart * w->channels, w->channels, to, beside};
    const float *origin = 0;
    for (count y = 0; y < w->height && !origin; y++) origin = from_row[y];
    for (count first = 0; first < least(apart, out_columns); first++) {
        const float *own[MOST], *from = origin;
        count far[MOST], taps = 0, before = -1;
        for (count column = first; column < out_columns;) {
            count many = MANY, last = column + (MANY - 1) * apart;
            if (last >= out_columns) many = 1;
            int is_known = before >= 0; /* which places there are, as of the one before */
            const int32_t *here = across + column * w->width;
            for (count x = 0; x < w->width; x++) {
                int is_here = here[x] >= 0;
                if (many > 1 && is_here != (across[last * w->width + x] >= 0)) many = 1;
                if (is_known && is_here != (across[before * w->width + x] >= 0)) is_known = 0;
            }
            if (is_known) from += (column - before) / apart * s.from_step;
            if (!is_known) {
                from = origin, taps = 0;
                for (count y = 0; y < w->height; y++)
                    for (count x = 0; x < w->width; x++) {
                        int is_there = from_row[y] && here[x] >= 0;
                        if (!is_there || !w->is_used[y * w->width + x]) continue;
                        far[taps] = from_row[y] - origin + here[x] * stride;
                        own[taps++] = w->weight + (y * w->width + x) * w->channels;
                    }
            }
            if (many == MANY)
                all_sums(&s, from, far, own, taps, column * w->channels, MANY);
            else
                all_sums(&s, from, far, own, taps, column * w->channels, 1);
            before = column;
            column += many * apart;
        }
    }
}

#endif
