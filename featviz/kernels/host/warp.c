/* Bilinear sampling of pictures where affine maps say, and its adjoint: planes are read and
   written, the sampled pictures have the channels of a pixel side by side. */

#include "common.h"

#define RUN 128 /* pixels of an output row that are looked up together */
#define PARTS 16
#define LANES 4 /* channels whose sums lie side by side */

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef float two_lanes __attribute__((vector_size(8 * LANES), aligned(4)));

/* A picture whose channels lie side by side, in a frame of one pixel that is zero. */
typedef struct {
    count rows, columns, stride;
    lanes *pixels;
} framed;

/* Of each output pixel the upper left of the four that it reads, in their frame, and how far down
 * and to the right of it, in pixels, it lies between them. */
typedef struct {
    ints at[RUN / WIDE];
    floats down[RUN / WIDE], right[RUN / WIDE];
} corners;

/* Positions between the outermost edges of `size` pixels, as in mirrors that stand there. */
INLINE floats mirrored(floats position, float size) {
    floats shifted = position + 0.5f, periods = floored(shifted * (0.5f / size));
    floats there = shifted - 2 * size * periods;
    floats inside = smaller(there, 2 * size - there) - 0.5f;
    return smaller(larger(inside, whole(0)), whole(size - 1));
}

/* Positions in a frame, where outside of it is the frame; the pixel before each. */
INLINE floats in_frame(floats position, count size, count reflects, floats *before) {
    if (reflects) position = mirrored(position, (float)size);
    position = smaller(larger(position + 1, whole(0)), whole((float)(size + 1)));
    *before = smaller(floored(position), whole((float)size));
    return position;
}

/* What `run` output pixels of a row, from `first` on, read. */
INLINE void look_up(corners *found, framed picture, const float *affine, count row, count first,
                    count run, count reflects) {
    float start_row = affine[0] * row + affine[2], start_column = affine[3] * row + affine[5];
    floats column = (floats){0, 1, 2, 3, 4, 5, 6, 7} + (float)first, above, left;
    for (count k = 0; k * WIDE < run; k++, column += WIDE) {
        floats down = start_row + affine[1] * column, right = start_column + affine[4] * column;
        found->down[k] = in_frame(down, picture.rows, reflects, &above) - above;
        found->right[k] = in_frame(right, picture.columns, reflects, &left) - left;
        found->at[k] = __builtin_convertvector(above, ints) * (int32_t)picture.stride +
                       __builtin_convertvector(left, ints);
    }
}

INLINE framed framed_in(float *room, count rows, count columns) {
    return (framed){rows, columns, columns + 2, (lanes *)room};
}

/* Planes into the frame, and back; LANES pixels at once are four loads and a transposition. */
INLINE void put_in(framed picture, const float *planes, count channels) {
    count columns = picture.columns, plane = picture.rows * columns;
    memset(picture.pixels, 0, picture.stride * sizeof(lanes));
    for (count row = 0; row < picture.rows; row++, planes += columns) {
        lanes *to = picture.pixels + (row + 1) * picture.stride + 1;
        count column = 0;
        to[-1] = (lanes){0};
        for (; column + LANES <= columns; column += LANES) {
            lanes from[LANES] = {{0}};
            for (count channel = 0; channel < channels; channel++)
                from[channel] = *(const lanes *)(planes + channel * plane + column);
            for (int k = 0; k < LANES; k++)
                to[column + k] = (lanes){from[0][k], from[1][k], from[2][k], from[3][k]};
        }
        for (; column < columns; column++) {
            to[column] = (lanes){0};
            for (count channel = 0; channel < channels; channel++)
                to[column][channel] = planes[channel * plane + column];
        }
        to[columns] = (lanes){0};
    }
    memset(picture.pixels + (picture.rows + 1) * picture.stride, 0, picture.stride * sizeof(lanes));
}

INLINE void take_out(framed picture, float *planes, count channels) {
    count columns = picture.columns, plane = picture.rows * columns;
    for (count row = 0; row < picture.rows; row++, planes += columns) {
        const lanes *from = picture.pixels + (row + 1) * picture.stride + 1;
        count column = 0;
        for (; column + LANES <= columns; column += LANES, from += LANES)
            for (count channel = 0; channel < channels; channel++)
                *(lanes *)(planes + channel * plane + column) =
                    (lanes){from[0][channel], from[1][channel], from[2][channel], from[3][channel]};
        for (; column < columns; column++, from++)
            for (count channel = 0; channel < channels; channel++)
                planes[channel * plane + column] = (*from)[channel];
    }
}

/* The first `few` channels of a pixel; of all LANES where `is_wide`, what comes after them too. */
INLINE lanes taken_from(const float *pixel, count few, count is_wide) {
    if (is_wide) return *(const lanes *)pixel;
    lanes value = {0};
    for (count k = 0; k < few; k++) value[k] = pixel[k];
    return value;
}

INLINE void put_into(float *pixel, lanes value, count few, count is_wide) {
    if (is_wide)
        *(lanes *)pixel = value;
    else
        for (count k = 0; k < few; k++) pixel[k] = value[k];
}

/* What lies `down` and `right` of a pixel, each in [0, 1]. */
INLINE lanes sampled_at(const lanes *at, count stride, float down, float right) {
    two_lanes above = *(const two_lanes *)at, below = *(const two_lanes *)(at + stride);
    two_lanes both = above + down * (below - above);
    lanes left = {both[0], both[1], both[2], both[3]}, other = {both[4], both[5], both[6], both[7]};
    return left + right * (other - left);
}

/* What becomes of a pixel's channels: factor * value + shift, then the last first if reversed. */
typedef struct {
    lanes factor, shift;
    count is_reversed;
} paint;

INLINE paint paint_of(const float *scale, const float *offset, count is_reversed, count few) {
    paint found = {{1, 1, 1, 1}, {0}, is_reversed};
    for (count k = 0; k < few && scale; k++) found.factor[k] = scale[k];
    for (count k = 0; k < few && offset; k++) found.shift[k] = offset[k];
    return found;
}

INLINE lanes reversed(lanes value, count few) {
    lanes found = value;
    for (count k = 0; k < few; k++) found[k] = value[few - 1 - k];
    return found;
}

INLINE void sample_few(const float *planes, const float *affine, paint colors, float *room,
                       float *pixels, count few, count channels, count rows, count columns,
                       count out_rows, count out_columns, count reflects) {
    corners found;
    framed picture = framed_in(room, rows, columns);
    put_in(picture, planes, few);
    for (count row = 0; row < out_rows; row++) {
        for (count first = 0; first < out_columns; first += RUN) {
            count run = least(RUN, out_columns - first);
            float *to = pixels + (row * out_columns + first) * channels;
            look_up(&found, picture, affine, row, first, run, reflects);
            const int32_t *at = (const int32_t *)found.at;
            const float *down = (const float *)found.down, *right = (const float *)found.right;
            for (count k = 0; k < run; k++) {
                const lanes *from = picture.pixels + at[k];
                lanes value = sampled_at(from, picture.stride, down[k], right[k]);
                value = value * colors.factor + colors.shift;
                if (colors.is_reversed) value = reversed(value, few);
                put_into(to + k * channels, value, few, channels == 3 && k + 1 < run);
            }
        }
    }
}

INLINE two_lanes side_by_side(lanes first, lanes second) {
    return (two_lanes){first[0],  first[1],  first[2],  first[3],
                       second[0], second[1], second[2], second[3]};
}

/* Neighbours add to the same pixels, one after the other; PARTS of a run that are apart do not
   have to wait for each other. */
INLINE void gather_few(const float *pixels, const float *affine, paint colors, float *room,
                       float *planes, count few, count channels, count rows, count columns,
                       count out_rows, count out_columns, count reflects) {
    corners found;
    framed picture = framed_in(room, rows, columns);
    memset(room, 0, (rows + 2) * picture.stride * sizeof(lanes));
    for (count row = 0; row < out_rows; row++) {
        for (count first = 0; first < out_columns; first += RUN) {
            count run = least(RUN, out_columns - first), length = (run + PARTS - 1) / PARTS;
            const float *from = pixels + (row * out_columns + first) * channels;
            look_up(&found, picture, affine, row, first, run, reflects);
            const int32_t *at = (const int32_t *)found.at;
            const float *down = (const float *)found.down, *right = (const float *)found.right;
            for (count k = 0; k < run * channels; k += 2 * WIDE)
                __builtin_prefetch(from + run * channels + k);
            for (count n = 0; n < length; n++) {
                for (count k = n; k < run; k += length) {
                    lanes *above = picture.pixels + at[k], *below = above + picture.stride;
                    lanes value =
                        taken_from(from + k * channels, few, channels == 3 && k + 1 < run);
                    if (colors.is_reversed) value = reversed(value, few);
                    value *= colors.factor;
                    lanes lower = down[k] * value, upper = value - lower;
                    lanes upper_right = right[k] * upper, lower_right = right[k] * lower;
                    *(two_lanes *)above += side_by_side(upper - upper_right, upper_right);
                    *(two_lanes *)below += side_by_side(lower - lower_right, lower_right);
                }
            }
        }
    }
    take_out(picture, planes, few);
}

/* Channels of pictures, LANES or fewer at a time; each thread has room for a framed picture. Only
   of LANES channels or fewer there may be a scale, an offset and a reversed order. */
#define BY_PICTURE(FEW, FROM, TO)                                                                \
    count plane = rows * columns, out = out_rows * out_columns * channels;                       \
    SHARED                                                                                       \
    for (count worker = 0; worker < threads; worker++) {                                         \
        float *own = room + worker * (rows + 2) * (columns + 2) * LANES;                         \
        count end = batch * (worker + 1) / threads;                                              \
        for (count image = batch * worker / threads; image < end; image++) {                     \
            const float *map = affine + 6 * image;                                               \
            for (count first = 0; first < channels; first += LANES) {                            \
                count few = least(LANES, channels - first);                                      \
                paint colors = paint_of(scale, offset, is_reversed, few);                        \
                if (channels == 3)                                                               \
                    FEW(FROM, map, colors, own, TO, 3, 3, rows, columns, out_rows, out_columns,  \
                        reflects);                                                               \
                else                                                                             \
                    FEW(FROM, map, colors, own, TO, few, channels, rows, columns, out_rows,      \
                        out_columns, reflects);                                                  \
            }                                                                                    \
        }                                                                                        \
    }

KERNEL sample(const float *restrict images, const float *restrict affine, const float *scale,
              const float *offset, count is_reversed, float *restrict room,
              float *restrict result, count batch, count channels, count rows, count columns,
              count out_rows, count out_columns, count reflects, count threads) {
    BY_PICTURE(sample_few, images + (image * channels + first) * plane,
               result + image * out + first)
}

KERNEL gather(const float *restrict gradient, const float *restrict affine, const float *scale,
              const float *offset, count is_reversed, float *restrict room,
              float *restrict result, count batch, count channels, count rows, count columns,
              count out_rows, count out_columns, count reflects, count threads) {
    BY_PICTURE(gather_few, gradient + image * out + first,
               result + (image * channels + first) * plane)
}
