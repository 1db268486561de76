/* Local response normalization and its gradient, the channels of a pixel side by side. */

#include "common.h"

/* base ** -beta; a general power costs several times as much as the commonest. */
INLINE void lowered(const float *restrict base, float *restrict result, count channels,
                    float beta) {
    if (beta == 0.75f)
        for (count c = 0; c < channels; c++) {
            float root = 1 / sqrtf(base[c]);
            result[c] = root * sqrtf(root);
        }
    else
        for (count c = 0; c < channels; c++) result[c] = powf(base[c], -beta);
}

/* Sums over `size` values of a line, from each on. */
INLINE void summed(const float *restrict line, float *restrict result, count channels, count size) {
    for (count c = 0; c < channels; c++) result[c] = line[c];
    for (count step = 1; step < size; step++)
        for (count c = 0; c < channels; c++) result[c] += line[c + step];
}

/* Values x to x * base ** -beta, where base is k + weight * the sum of x ** 2 over `size` channels
   around each. Strides are those of `maps`; results are dense. */
KERNEL normalized(const float *restrict maps, float *restrict result, float *restrict base,
                  count batch, count channels, count pixels, count image_stride, count stride,
                  count size, float weight, float beta, float k, count threads) {
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count pixel = 0; pixel < pixels; pixel++) {
            float line[channels + size], factor[channels];
            const float *x = maps + image * image_stride + pixel * stride;
            float *y = result + (image * pixels + pixel) * channels;
            float *here = base + (image * pixels + pixel) * channels;
            memset(line, 0, sizeof(line));
            for (count c = 0; c < channels; c++) line[size / 2 + c] = x[c] * x[c];
            summed(line, here, channels, size);
            for (count c = 0; c < channels; c++) here[c] = k + weight * here[c];
            lowered(here, factor, channels, beta);
            for (count c = 0; c < channels; c++) y[c] = x[c] * factor[c];
        }
    }
}

KERNEL normalized_gradient(const float *restrict gradient, const float *restrict maps,
                           const float *restrict base, float *restrict result, count batch,
                           count channels, count pixels, count gradient_image,
                           count gradient_stride, count image_stride, count stride, count size,
                           float weight, float beta, count threads) {
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count pixel = 0; pixel < pixels; pixel++) {
            float line[channels + size], factor[channels], spread[channels];
            const float *g = gradient + image * gradient_image + pixel * gradient_stride;
            const float *x = maps + image * image_stride + pixel * stride;
            const float *here = base + (image * pixels + pixel) * channels;
            float *to = result + (image * pixels + pixel) * channels;
            memset(line, 0, sizeof(line));
            lowered(here, factor, channels, beta);
            for (count c = 0; c < channels; c++)
                line[(size - 1) / 2 + c] = g[c] * x[c] * factor[c] / here[c];
            summed(line, spread, channels, size);
            for (count c = 0; c < channels; c++)
                to[c] = g[c] * factor[c] - 2 * beta * weight * x[c] * spread[c];
        }
    }
}
