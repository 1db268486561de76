/* From pictures to what a network is given, and back: scaled, ordered, laid out. */

#include "common.h"

/* One picture and what the network is given for it, either from the other. */
INLINE void convert(float *restrict picture, float *restrict input, const float *scale,
                    const float *offset, count channels, count pixels, count is_by_pixel,
                    count is_reversed, count is_back) {
    count step = is_by_pixel ? channels : 1, apart = is_by_pixel ? 1 : pixels;
    for (count pixel = 0; pixel < pixels; pixel++)
        for (count channel = 0; channel < channels; channel++) {
            float *value = picture + pixel * step + channel * apart;
            float *at = input + pixel * channels + (is_reversed ? channels - 1 - channel : channel);
            if (is_back)
                *value = *at * scale[channel];
            else
                *at = *value * scale[channel] + offset[channel];
        }
}

INLINE void convert_all(float *pictures, float *inputs, const float *scale, const float *offset,
                        count batch, count channels, count pixels, count is_by_pixel,
                        count is_reversed, count is_back, count threads) {
    SHARED
    for (count n = 0; n < batch; n++) {
        float *picture = pictures + n * channels * pixels, *input = inputs + n * channels * pixels;
        if (channels != 3)
            convert(picture, input, scale, offset, channels, pixels, is_by_pixel, is_reversed,
                    is_back);
        else if (!is_by_pixel)
            convert(picture, input, scale, offset, 3, pixels, 0, is_reversed, is_back);
        else if (is_reversed)
            convert(picture, input, scale, offset, 3, pixels, 1, 1, is_back);
        else
            convert(picture, input, scale, offset, 3, pixels, 1, 0, is_back);
    }
}

/* scale * value + offset, the channels of a pixel side by side; the last first if reversed.
   `is_by_pixel`: they are in the pictures, too. */
KERNEL given(float *pictures, const float *scale, const float *offset, float *inputs, count batch,
             count channels, count pixels, count is_by_pixel, count is_reversed, count threads) {
    convert_all(pictures, inputs, scale, offset, batch, channels, pixels, is_by_pixel, is_reversed,
                0, threads);
}

KERNEL taken(float *inputs, const float *scale, float *pictures, count batch, count channels,
             count pixels, count is_by_pixel, count is_reversed, count threads) {
    convert_all(pictures, inputs, scale, 0, batch, channels, pixels, is_by_pixel, is_reversed, 1,
                threads);
}
