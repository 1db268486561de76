/* Two convolutions of one place and between them one of each channel's own window, there or back,
   in one pass: what is wide never leaves the cache. Back it is the same with gradients. One of the
   two may be missing. */

#include "products.h"
#include "windows.h"

/* Which rows of the wide maps the results from `first` on see: from `top` to before `end`. */
INLINE void find_range(const window *w, count rows, count first, count few, count *top,
                       count *end) {
    count last = first + few - 1, from, to;
    if (w->is_back) {
        from = first + w->above - w->height + 1;
        from = from > 0 ? (from + w->down - 1) / w->down : 0;
        to = (last + w->above) / w->down;
    } else {
        from = first * w->down - w->above;
        to = last * w->down - w->above + w->height - 1;
    }
    *top = least(from > 0 ? from : 0, rows);
    *end = to + 1 < *top ? *top : least(to + 1, rows);
}

/* That something of a picture is not zero, if so. */
INLINE void note(uint8_t *stirring, count image, const float *values, count number) {
    if (stirring && !stirring[image] && stirs(values, number))
        __atomic_store_n(stirring + image, 1, __ATOMIC_RELAXED);
}

/* Rows that are summed over: `top` is the first of them, `step` between them, `apart` between their
   pixels. */
typedef struct {
    const float *from;
    count top, step, apart;
} seen_rows;

/* `maps` (strides as given) are made wide by the first weight, if there is one, summed over
   windows, and made narrow by the last, if there is one. On the way there each step is held within
   bounds, and marks are set for the way back, where they are read: `first_marks` for what the first
   product makes, `marks` for what is summed. `values` are what the rectifier before it all gave,
   for the last step of the way back.
   `stirring`, where it is wanted: for each picture whether anything of what the first product
   makes, and then whether anything of what is summed, is not zero.
   Each thread has `share` of the room, for `most` rows of what is summed, `tall` of the sums, and
   of pairs, where the first product takes them, what makes `most` rows.
   Wide channels are a multiple of WIDE; the result is dense. `first_pairs`, `last_pairs`: the
   product takes an even number of inputs in pairs, and its weight is packed so. */
KERNEL bottleneck(const float *restrict maps, const float *restrict first_weight,
                  const float *restrict first_bias, uint8_t *restrict first_marks,
                  const float *restrict weight, const float *restrict bias,
                  uint8_t *restrict marks, const float *restrict last_weight,
                  const float *restrict last_bias, const float *restrict values,
                  float *restrict result, uint8_t *stirring, float *restrict room, float first_low,
                  float first_high, float low, float high, float last_low, float last_high,
                  count height, count width, count down, count right, count above, count left,
                  count batch, count inputs, count rows, count columns, count image_stride,
                  count stride, count channels, count outputs, count out_rows, count out_columns,
                  count tall, count most, count share, count first_pairs, count last_pairs,
                  count is_back, count threads) {
    count across = columns * channels, strips = (out_rows + tall - 1) / tall;
    count pieces = batch * strips;
    rectifier first_beside = {first_low, first_high, 0, first_marks, is_back != 0};
    rectifier own_beside = {low, high, 0, marks, is_back != 0};
    rectifier last_beside = {last_low, last_high, values, 0, is_back != 0};
    window w = {weight, bias, height, width, down, right, above, left, channels, is_back != 0};
    int32_t seen_columns[out_columns * width];
    find_columns(&w, columns, out_columns, seen_columns);
    SHARED
    for (count worker = 0; worker < threads; worker++) {
        float *wide = room + worker * share, *sums_made = wide + most * across;
        float *pairs = sums_made + tall * out_columns * channels;
        count end_piece = pieces * (worker + 1) / threads, kept = 0, kept_end = 0, before = -1;
        for (count piece = pieces * worker / threads; piece < end_piece; piece++) {
            count image = piece / strips, first = piece % strips * tall, top, end;
            count few = least(tall, out_rows - first);
            find_range(&w, rows, first, few, &top, &end);
            count ready = image == before && kept_end > top ? least(kept_end, end) - top : 0;
            if (ready && first_weight) /* made for the results before */
                memmove(wide, wide + (top - kept) * across,
                        sizeof(float) * (size_t)(ready * across));
            count here = (image * rows + top + ready) * columns;
            seen_rows seen = {maps + image * image_stride, 0, columns * stride, stride};
            if (first_weight) seen = (seen_rows){wide, top, across, channels};
            if (first_weight && top + ready < end) {
                const float *from =
                    maps + image * image_stride + (top + ready) * columns * stride;
                count made = (end - top - ready) * columns, step = stride, places = inputs;
                if (first_pairs) {
                    pair_up_pixels(from, stride, inputs, made, pairs);
                    from = pairs, step = places = inputs / 2;
                }
                product widen = {first_weight, first_bias, 1, places, 0, step, channels,
                                 first_pairs, wide + ready * across,
                                 from_place(first_beside, here * channels)};
                make_rows(&widen, from, 0, 1, made);
                note(stirring, image, widen.to, made * channels);
            }
            kept = top, kept_end = end, before = image;
            here = (image * out_rows + first) * out_columns;
            rectifier beside = from_place(last_weight ? own_beside : last_beside, here * channels);
            float *sums_to = last_weight ? sums_made : result + here * channels;
            for (count row = 0; row < few; row++) {
                const float *from_row[MOST];
                find_rows(&w, first + row, rows, seen.from, seen.top, seen.step, from_row);
                count at = row * out_columns * channels;
                sum_row(&w, from_row, columns, seen.apart, seen_columns, out_columns, sums_to + at,
                        from_place(beside, at));
            }
            if (!last_weight) continue;
            count places = last_pairs ? channels / 2 : channels, pixels = few * out_columns;
            product narrow = {last_weight, last_bias, 1, places, 0, places, outputs, last_pairs,
                              result + here * outputs, from_place(last_beside, here * outputs)};
            note(stirring ? stirring + batch : 0, image, sums_made, pixels * channels);
            if (last_pairs) pair_up(sums_made, pixels * channels, sums_made);
            make_rows(&narrow, sums_made, 0, 1, pixels);
        }
    }
}
