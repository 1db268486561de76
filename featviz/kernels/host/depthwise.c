/* Convolutions of each channel with a kernel of its own, and their gradient at the input; the
   channels of a pixel side by side. */

#include "common.h"

#define MOST 81 /* places of a window: MOST_PLACES of layout.py */
#define MANY 2  /* results, and vectors of their channels, that are made together */
#define BROAD 4

/* Which value result `at` sees through a place of the window in one direction, or, on the way back,
   which result sees value `at` through it; -1 where there is none of `length`. */
INLINE int32_t seen(count at, count place, count stride, count padding, count length, int is_back) {
    count there = is_back ? at + padding - place : at * stride - padding + place;
    if (is_back && (there < 0 || there % stride)) return -1;
    there = is_back ? there / stride : there;
    return there >= 0 && there < length ? (int32_t)there : -1;
}

/* What all results of a call share. */
typedef struct {
    const float *bias;
    range within;
    count from_step, to_step; /* between results, in what is summed and in what is made */
    count channels;
} sum;

/* The sums of `many` results over `taps` places, so far from `from`, from channel `c` on for `wide`
   vectors of channels; `few` numbers of the last one where it is not whole. */
INLINE void sums(sum s, const float *from, const count *far, const float *const *weight, count taps,
                 const float *values, float *to, count c, int many, int wide, count few) {
    floats total[MANY][BROAD];
    ALL for (int k = 0; k < many; k++)
        ALL for (int v = 0; v < wide; v++) {
            count next = c + (k + many) * s.to_step + v * WIDE;
            if (v % 2 == 0) { /* two vectors are a line of the cache */
                __builtin_prefetch(to + next, 1);
                if (values) __builtin_prefetch(values + next);
            }
            total[k][v] = s.bias ? load_few(s.bias + c + v * WIDE, few) : whole(0);
        }
    for (count tap = 0; tap < taps; tap++) {
        const float *here = from + far[tap] + c, *factors = weight[tap] + c;
        ALL for (int v = 0; v < wide; v++) {
            floats factor = load_few(factors + v * WIDE, few);
            ALL for (int k = 0; k < many; k++)
                total[k][v] += factor * load_few(here + k * s.from_step + v * WIDE, few);
        }
    }
    ALL for (int k = 0; k < many; k++)
        ALL for (int v = 0; v < wide; v++) {
            count at = c + k * s.to_step + v * WIDE;
            const float *value = values ? values + at : 0;
            store_few(to + at, held_or_passed(total[k][v], value, s.within, few), few);
        }
}

/* All channels of them. */
INLINE void all_sums(sum s, const float *from, const count *far, const float *const *weight,
                     count taps, const float *values, float *to, int many) {
    count c = 0, channels = s.channels;
    for (; c + BROAD * WIDE <= channels; c += BROAD * WIDE)
        sums(s, from, far, weight, taps, values, to, c, many, BROAD, WIDE);
    for (; c + WIDE <= channels; c += WIDE) sums(s, from, far, weight, taps, values, to, c, many, 1, WIDE);
    if (c < channels) sums(s, from, far, weight, taps, values, to, c, many, 1, channels - c);
}

/* Sums over windows, there or back, see `held_or_passed`. `weight` is (place, channel). Strides are
   those of `maps`; `values` and results are dense. Places whose weights are all zero, with which a kernel takes in
   a padding, are left out. */
KERNEL depthwise(const float *restrict maps, const float *restrict weight,
                 const float *restrict bias, const float *restrict values,
                 float *restrict result, float low, float high,
                 count height, count width, count down, count right, count above, count left,
                 count batch, count channels, count rows, count columns, count image_stride,
                 count stride, count out_rows, count out_columns, count is_back, count threads) {
    count apart = is_back ? right : 1; /* results side by side in this see values side by side */
    sum s = {bias, {low, high}, (is_back ? 1 : right) * stride, apart * channels, channels};
    uint8_t is_used[MOST] = {0};
    for (count place = 0; place < height * width; place++)
        for (count c = 0; c < channels; c++) is_used[place] |= weight[place * channels + c] != 0;
    int32_t across[out_columns][width];
    for (count column = 0; column < out_columns; column++)
        for (count x = 0; x < width; x++)
            across[column][x] = seen(column, x, right, left, columns, is_back != 0);
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count row = 0; row < out_rows; row++) {
            count to_row = (image * out_rows + row) * out_columns * channels;
            const float *from_row[height], *own[MOST];
            for (count y = 0; y < height; y++) {
                count at = seen(row, y, down, above, rows, is_back != 0);
                from_row[y] = at < 0 ? 0 : maps + image * image_stride + at * columns * stride;
            }
            for (count first = 0; first < least(apart, out_columns); first++) {
                count far[MOST], taps = 0, before = -1;
                const float *from = maps;
                for (count column = first; column < out_columns;) {
                    count many = MANY, last = column + (MANY - 1) * apart;
                    if (last >= out_columns) many = 1;
                    int is_known = before >= 0; /* which places there are, as of the one before */
                    for (count x = 0; x < width; x++) {
                        int is_here = across[column][x] >= 0;
                        if (many > 1 && is_here != (across[last][x] >= 0)) many = 1;
                        if (is_known && is_here != (across[before][x] >= 0)) is_known = 0;
                    }
                    if (is_known) from += (column - before) / apart * s.from_step;
                    if (!is_known) {
                        from = maps, taps = 0;
                        for (count y = 0; y < height; y++)
                            for (count x = 0; x < width; x++) {
                                int is_there = from_row[y] && across[column][x] >= 0;
                                if (!is_there || !is_used[y * width + x]) continue;
                                far[taps] = from_row[y] - maps + across[column][x] * stride;
                                own[taps++] = weight + (y * width + x) * channels;
                            }
                    }
                    count to = to_row + column * channels;
                    const float *value = values ? values + to : 0;
                    if (many == MANY)
                        all_sums(s, from, far, own, taps, value, result + to, MANY);
                    else
                        all_sums(s, from, far, own, taps, value, result + to, 1);
                    before = column;
                    column += many * apart;
                }
            }
        }
    }
}
