/* From pictures to what a network is given, and back: scaled, ordered, laid out. */

#include "common.h"

INLINE void give(const float *restrict planes, const float *scale, const float *offset,
                 float *restrict result, count channels, count pixels, count is_reversed) {
    for (count pixel = 0; pixel < pixels; pixel++)
        for (count channel = 0; channel < channels; channel++) {
            count source = is_reversed ? channels - 1 - channel : channel;
            result[pixel * channels + channel] =
                planes[source * pixels + pixel] * scale[source] + offset[source];
        }
}

INLINE void take(const float *restrict gradient, const float *scale, float *restrict planes,
                 count channels, count pixels, count is_reversed) {
    for (count pixel = 0; pixel < pixels; pixel++)
        for (count channel = 0; channel < channels; channel++) {
            count target = is_reversed ? channels - 1 - channel : channel;
            planes[target * pixels + pixel] = gradient[pixel * channels + channel] * scale[target];
        }
}

/* scale * value + offset, the channels of a pixel side by side; the last first if reversed. */
KERNEL given(const float *restrict images, const float *scale, const float *offset,
             float *restrict result, count batch, count channels, count pixels, count is_reversed,
             count threads) {
    SHARED
    for (count image = 0; image < batch; image++) {
        const float *from = images + image * channels * pixels;
        float *to = result + image * channels * pixels;
        if (channels == 3)
            give(from, scale, offset, to, 3, pixels, is_reversed);
        else
            give(from, scale, offset, to, channels, pixels, is_reversed);
    }
}

KERNEL taken(const float *restrict gradient, const float *scale, float *restrict result,
             count batch, count channels, count pixels, count is_reversed, count threads) {
    SHARED
    for (count image = 0; image < batch; image++) {
        const float *from = gradient + image * channels * pixels;
        float *to = result + image * channels * pixels;
        if (channels == 3)
            take(from, scale, to, 3, pixels, is_reversed);
        else
            take(from, scale, to, channels, pixels, is_reversed);
    }
}
