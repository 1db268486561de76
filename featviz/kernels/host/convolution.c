/* Convolutions as products of a matrix with what each result sees. */

#include "products.h"

#define NEAR 24576 /* bytes of pixels and results that stay in the cache beside the matrix */

/* (output, what it sees) as the products take it: by vector of outputs, zeros after the last. */
KERNEL pack(const float *restrict weight, float *restrict packed, count outputs, count length,
            count in_pairs, count threads) {
    (void)threads;
    count places = in_pairs ? length / 2 : length;
    for (count c = 0; c < (outputs + LINE - 1) / LINE * LINE; c++)
        for (count at = 0; at < places; at++) {
            float *to = packed + (c / LINE * places + at) * LINE + c % LINE;
            if (c >= outputs)
                *to = 0;
            else if (in_pairs)
                pair_up(weight + c * length + 2 * at, 2, to);
            else
                *to = weight[c * length + at];
        }
}

/* A product for each pixel: what a kernel of one place makes. A bias has room for whole vectors.
   Strides are those of `maps`; `values` and results are dense. `in_pairs`: of an even number of
   inputs, and packed so. */
KERNEL pointwise(const float *restrict maps, const float *restrict weight,
                 const float *restrict bias, const float *restrict values, float *restrict result,
                 float low, float high, count batch, count inputs, count outputs, count pixels,
                 count image_stride, count stride, count in_pairs, count threads) {
    count places = in_pairs ? inputs / 2 : inputs;
    count block = NEAR / 4 / (places + outputs), share = (pixels + threads - 1) / threads;
    if (batch < threads) block = least(block, share);
    block = block < TOGETHER ? TOGETHER : block / TOGETHER * TOGETHER;
    count blocks = (pixels + block - 1) / block;
    rectifier beside = {low, high, values, 0, values != 0};
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count at = 0; at < blocks; at++) {
            count first = at * block, here = (image * pixels + first) * outputs;
            count few = least(block, pixels - first), step = in_pairs ? places : stride;
            const float *from = maps + image * image_stride + first * stride;
            float room[in_pairs ? few * places : 1];
            if (in_pairs) {
                pair_up_pixels(from, stride, inputs, few, room);
                from = room;
            }
            product p = {weight, bias, 1, places, 0, step, outputs, in_pairs, result + here,
                         from_place(beside, here)};
            make_rows(&p, from, 0, 1, few);
        }
    }
}

/* `few` rows of a map from `top` on, framed by zeros where it ends. */
static void frame(const float *restrict maps, count stride, count inputs, count rows, count columns,
                  float *restrict room, count top, count left, count few, count room_columns,
                  count in_pairs) {
    count places = in_pairs ? inputs / 2 : inputs, number = places * (count)sizeof(float);
    count first = left > 0 ? left : 0, last = least(room_columns, columns + left);
    count inner = last - first;
    for (count y = 0; y < few; y++) {
        float *to = room + y * room_columns * places;
        const float *from = maps + ((top + y) * columns + first - left) * stride;
        if (top + y < 0 || top + y >= rows || inner <= 0) {
            memset(to, 0, (size_t)(number * room_columns));
            continue;
        }
        memset(to, 0, (size_t)(number * first));
        if (in_pairs)
            pair_up_pixels(from, stride, inputs, inner, to + first * places);
        else if (stride == inputs)
            memcpy(to + first * places, from, (size_t)(number * inner));
        else
            for (count x = 0; x < inner; x++)
                memcpy(to + (first + x) * places, from + x * stride, (size_t)number);
        memset(to + last * places, 0, (size_t)(number * (room_columns - last)));
    }
}

/* Convolutions with larger kernels, (row, column, input). Each thread has `share` of the room, for
   what `tall` rows of results see. The rest is as for `pointwise`. */
KERNEL convolution(const float *restrict maps, const float *restrict weight,
                   const float *restrict bias, const float *restrict values,
                   float *restrict result, float low, float high, float *restrict room,
                   count height, count width, count down, count right, count above, count left,
                   count batch, count inputs, count rows, count columns, count image_stride,
                   count stride, count outputs, count out_rows, count out_columns, count tall,
                   count share, count in_pairs, count threads) {
    count room_columns = (out_columns - 1) * right + width;
    count places = in_pairs ? inputs / 2 : inputs, across = room_columns * places;
    count strips = (out_rows + tall - 1) / tall, pieces = batch * strips;
    rectifier beside = {low, high, values, 0, values != 0};
    SHARED
    for (count worker = 0; worker < threads; worker++) {
        float *own = room + worker * share;
        count end = pieces * (worker + 1) / threads;
        for (count piece = pieces * worker / threads; piece < end; piece++) {
            count image = piece / strips, first = piece % strips * tall;
            count few = least(tall, out_rows - first);
            frame(maps + image * image_stride, stride, inputs, rows, columns, own,
                  first * down - above, left, (few - 1) * down + height, room_columns, in_pairs);
            count here = (image * out_rows + first) * out_columns * outputs;
            product p = {weight, bias, height, width * places, across, right * places, outputs,
                         in_pairs, result + here, from_place(beside, here)};
            make_rows(&p, own, down * across, few, out_columns);
        }
    }
}
