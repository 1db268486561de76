/* Bilinear sampling of pictures (image, channel, row, column) where affine maps say, and its
 * adjoint. */

#include <stdlib.h>

#include "common.h"

#define RUN 128 /* pixels of an output row that are looked up together */
#define LANES 4 /* channels whose sums lie side by side */

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    ints at[4][RUN / WIDE];      /* the four pixels that each output pixel reads */
    floats share[4][RUN / WIDE]; /* and how much each of them counts */
} corners;

typedef struct {
    ints low, high;
    floats share[2];
} neighbors;

/* Positions between the outermost edges of `size` pixels, as in mirrors that stand there. */
INLINE floats mirrored(floats position, float size) {
    floats shifted = position + 0.5f, periods = floored(shifted * (0.5f / size));
    floats there = shifted - 2 * size * periods;
    floats inside = smaller(there, 2 * size - there) - 0.5f;
    return smaller(larger(inside, whole(0)), whole(size - 1));
}

/* The pixels below and above positions along one axis, held inside, and what each counts. */
INLINE neighbors beside(floats position, count size, count reflects) {
    float last = (float)(size - 1);
    if (reflects)
        position = mirrored(position, (float)size);
    else
        position = smaller(larger(position, whole(-2)), whole(last + 2));
    floats low = floored(position), high = low + 1, part = position - low;
    neighbors found = {.share = {1 - part, part}};
    if (!reflects) {
        found.share[0] = chosen((low >= 0) & (low <= last), found.share[0], whole(0));
        found.share[1] = chosen((high >= 0) & (high <= last), found.share[1], whole(0));
        low = smaller(larger(low, whole(0)), whole(last));
        high = larger(high, whole(0));
    }
    found.low = __builtin_convertvector(low, ints);
    found.high = __builtin_convertvector(smaller(high, whole(last)), ints);
    return found;
}

/* What the output pixels of a row, from `first` on, read. */
INLINE void look_up(corners *found, const float *affine, count row, count first, count rows,
                    count columns, count reflects) {
    float start_row = affine[0] * row + affine[2], start_column = affine[3] * row + affine[5];
    floats column = (floats){0, 1, 2, 3, 4, 5, 6, 7} + (float)first;
    int32_t stride = (int32_t)columns;
    for (int k = 0; k < RUN / WIDE; k++, column += WIDE) {
        neighbors down = beside(start_row + affine[1] * column, rows, reflects);
        neighbors right = beside(start_column + affine[4] * column, columns, reflects);
        found->at[0][k] = down.low * stride + right.low;
        found->at[1][k] = down.low * stride + right.high;
        found->at[2][k] = down.high * stride + right.low;
        found->at[3][k] = down.high * stride + right.high;
        found->share[0][k] = down.share[0] * right.share[0];
        found->share[1][k] = down.share[0] * right.share[1];
        found->share[2][k] = down.share[1] * right.share[0];
        found->share[3][k] = down.share[1] * right.share[1];
    }
}

/* Planes to pixels whose channels lie side by side, and back; LANES pixels at once are four loads
   and a transposition. */
INLINE void together(const float *restrict planes, lanes *restrict room, count channels,
                     count pixels) {
    count pixel = 0;
    for (; pixel + LANES <= pixels; pixel += LANES) {
        lanes from[LANES] = {{0}};
        for (count channel = 0; channel < channels; channel++)
            from[channel] = *(const lanes *)(planes + channel * pixels + pixel);
        for (int k = 0; k < LANES; k++)
            room[pixel + k] = (lanes){from[0][k], from[1][k], from[2][k], from[3][k]};
    }
    for (; pixel < pixels; pixel++) {
        room[pixel] = (lanes){0};
        for (count channel = 0; channel < channels; channel++)
            room[pixel][channel] = planes[channel * pixels + pixel];
    }
}

INLINE void apart(const lanes *restrict room, float *restrict planes, count channels, count plane,
                  count pixels) {
    count pixel = 0;
    for (; pixel + LANES <= pixels; pixel += LANES) {
        const lanes *from = room + pixel;
        for (count channel = 0; channel < channels; channel++)
            *(lanes *)(planes + channel * plane + pixel) =
                (lanes){from[0][channel], from[1][channel], from[2][channel], from[3][channel]};
    }
    for (; pixel < pixels; pixel++)
        for (count channel = 0; channel < channels; channel++)
            planes[channel * plane + pixel] = room[pixel][channel];
}

INLINE void sample_few(const float *restrict planes, const float *affine, lanes *restrict room,
                       float *restrict result, count channels, count rows, count columns,
                       count out_rows, count out_columns, count reflects) {
    corners found;
    count plane = out_rows * out_columns;
    together(planes, room, channels, rows * columns);
    for (count row = 0; row < out_rows; row++) {
        for (count first = 0; first < out_columns; first += RUN) {
            look_up(&found, affine, row, first, rows, columns, reflects);
            const int32_t *at = (const int32_t *)found.at;
            const float *share = (const float *)found.share;
            lanes values[RUN];
            for (count k = 0; k < RUN; k++)
                values[k] = share[k] * room[at[k]] + share[k + RUN] * room[at[k + RUN]] +
                            share[k + 2 * RUN] * room[at[k + 2 * RUN]] +
                            share[k + 3 * RUN] * room[at[k + 3 * RUN]];
            count run = least(RUN, out_columns - first);
            apart(values, result + row * out_columns + first, channels, plane, run);
        }
    }
}

INLINE void gather_few(const float *restrict gradient, const float *affine, lanes *restrict room,
                       float *restrict result, count channels, count rows, count columns,
                       count out_rows, count out_columns, count reflects) {
    corners found;
    count plane = out_rows * out_columns;
    memset(room, 0, rows * columns * sizeof(lanes));
    for (count row = 0; row < out_rows; row++) {
        for (count first = 0; first < out_columns; first += RUN) {
            count run = least(RUN, out_columns - first);
            const float *from = gradient + row * out_columns + first;
            look_up(&found, affine, row, first, rows, columns, reflects);
            const int32_t *at = (const int32_t *)found.at;
            const float *share = (const float *)found.share;
            for (count k = 0; k < run; k++) {
                lanes value = {0};
                for (count channel = 0; channel < channels; channel++)
                    value[channel] = from[channel * plane + k];
                for (count corner = k; corner < 4 * RUN; corner += RUN)
                    room[at[corner]] += share[corner] * value;
            }
        }
    }
    apart(room, result, channels, rows * columns, rows * columns);
}

/* Planes of pictures, LANES or fewer at a time; `room` has LANES values for each input pixel. */
#define BY_PICTURE(FEW, FROM, FROM_PIXELS, TO_PIXELS)                                         \
    SHARED                                                                                    \
    for (count image = 0; image < batch; image++) {                                           \
        lanes *own = (lanes *)room + image * rows * columns;                                  \
        for (count first = 0; first < channels; first += LANES) {                             \
            count few = least(LANES, channels - first);                                       \
            const float *from = FROM + (image * channels + first) * FROM_PIXELS;              \
            float *to = result + (image * channels + first) * TO_PIXELS;                      \
            const float *map = affine + 6 * image;                                            \
            if (few == 3)                                                                     \
                FEW(from, map, own, to, 3, rows, columns, out_rows, out_columns, reflects);   \
            else                                                                              \
                FEW(from, map, own, to, few, rows, columns, out_rows, out_columns, reflects); \
        }                                                                                     \
    }

KERNEL sample(const float *restrict images, const float *restrict affine, float *restrict room,
              float *restrict result, count batch, count channels, count rows, count columns,
              count out_rows, count out_columns, count reflects, count threads) {
    BY_PICTURE(sample_few, images, rows * columns, out_rows * out_columns)
}

KERNEL gather(const float *restrict gradient, const float *restrict affine, float *restrict room,
              float *restrict result, count batch, count channels, count rows, count columns,
              count out_rows, count out_columns, count reflects, count threads) {
    BY_PICTURE(gather_few, gradient, out_rows * out_columns, rows * columns)
}
