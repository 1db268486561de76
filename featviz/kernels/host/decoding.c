/* Between coefficients, half spectra, planes and colors, each way in as few passes as may be. */

#include "common.h"

#define RUN 128 /* numbers of a row that are handled together */

/* exp, off by less than 2 units in the last place: 2**n times the exponential of what is left.
   Source: Cephes, expf (S. L. Moshier). */
INLINE floats exponential(floats value) {
    value = smaller(larger(value, whole(-87.0f)), whole(88.0f));
    floats n = floored(value * 1.44269504f + 0.5f);
    floats rest = value - n * 0.693359375f - n * -2.12194440e-4f;
    floats sum = whole(1.9875691500e-4f);
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    return sum * (floats)((__builtin_convertvector(n, ints) + 127) << 23);
}

INLINE floats sigmoid(floats value) {
    floats result = 1.0f / (1.0f + exponential(-value));
    return chosen(value == value, result, value); /* NaN stays */
}

KERNEL times_gain(const float *restrict coefficients, const float *restrict gain,
                  float *restrict result, count planes, count plane, count threads) {
    SHARED
    for (count n = 0; n < planes; n++)
        for (count at = 0; at < plane; at++)
            result[n * plane + at] = coefficients[n * plane + at] * gain[at];
}

/* A run of a row of the Hartley transform of a plane whose rfft2 is given: real minus imaginary
   part, where F(-k) is the conjugate of F(k). */
INLINE void hartley_run(const float *half, float *restrict result, count row, count first,
                        count run, count rows, count columns, float scale) {
    count kept = columns / 2 + 1, opposite = row ? rows - row : 0;
    const float *here = half + 2 * row * kept, *there = half + 2 * (opposite * kept + columns);
    count c = first, end = first + run, seen = least(kept, end);
    for (; c < seen; c++) result[c - first] = scale * (here[2 * c] - here[2 * c + 1]);
    for (; c < end; c++) result[c - first] = scale * (there[-2 * c] + there[1 - 2 * c]);
}

KERNEL coefficients_from_half(const float *restrict half, const float *restrict gain,
                              float *restrict result, count planes, count rows, count columns,
                              count threads) {
    float scale = 1 / sqrtf((float)(rows * columns));
    count size = 2 * rows * (columns / 2 + 1);
    SHARED_2
    for (count n = 0; n < planes; n++) {
        for (count row = 0; row < rows; row++) {
            float *to = result + (n * rows + row) * columns;
            hartley_run(half + n * size, to, row, 0, columns, rows, columns, scale);
            for (count c = 0; c < columns; c++) to[c] *= gain[row * columns + c];
        }
    }
}

/* The sigmoid of lines, three of them mixed by the rows of `mix`, or of one. */
INLINE void squash(floats (*lines)[RUN / WIDE], const float *mix) {
    for (int k = 0; k < RUN / WIDE; k++) {
        floats first = lines[0][k];
        if (!mix) {
            lines[0][k] = sigmoid(first);
            continue;
        }
        floats second = lines[1][k], third = lines[2][k];
        for (int line = 0; line < 3; line++, mix += 3)
            lines[line][k] = sigmoid(mix[0] * first + mix[1] * second + mix[2] * third);
        mix -= 9;
    }
}

/* The pictures of spectra; `mix`: three rows of three weights, or nothing. */
KERNEL images_from_half(const float *restrict half, const float *mix, float *restrict result,
                        count planes, count rows, count columns, count threads) {
    float scale = 1 / sqrtf((float)(rows * columns));
    count together = mix ? 3 : 1, size = 2 * rows * (columns / 2 + 1);
    SHARED_2
    for (count image = 0; image < planes / together; image++) {
        for (count row = 0; row < rows; row++) {
            for (count first = 0; first < columns; first += RUN) {
                floats lines[3][RUN / WIDE] = {{{0}}};
                count run = least(RUN, columns - first);
                for (count n = 0; n < together; n++)
                    hartley_run(half + (image * together + n) * size, (float *)lines[n], row, first,
                                run, rows, columns, scale);
                squash(lines, mix);
                for (count n = 0; n < together; n++)
                    memcpy(result + ((image * together + n) * rows + row) * columns + first,
                           lines[n], run * sizeof(float));
            }
        }
    }
}

/* The pictures of planes; `mix`: three rows of three weights, or nothing. */
KERNEL squashed(const float *restrict planes, const float *mix, float *restrict result,
                count number, count plane, count threads) {
    count together = mix ? 3 : 1;
    SHARED_2
    for (count image = 0; image < number / together; image++) {
        for (count first = 0; first < plane; first += RUN) {
            floats lines[3][RUN / WIDE] = {{{0}}};
            count run = least(RUN, plane - first), start = image * together * plane + first;
            for (count n = 0; n < together; n++)
                memcpy(lines[n], planes + start + n * plane, run * sizeof(float));
            squash(lines, mix);
            for (count n = 0; n < together; n++)
                memcpy(result + start + n * plane, lines[n], run * sizeof(float));
        }
    }
}

/* The gradient at the planes of what the sigmoid made of them; `mix` is the way there's. */
KERNEL unsquashed(const float *restrict gradient, const float *restrict images, const float *mix,
                  float *restrict result, count planes, count plane, count threads) {
    count together = mix ? 3 : 1;
    SHARED
    for (count image = 0; image < planes / together; image++) {
        count first = image * together * plane;
        const float *g = gradient + first, *p = images + first;
        float *to = result + first;
        for (count at = 0; at < plane; at++) {
            float red = g[at] * (1 - p[at]) * p[at];
            if (!mix) {
                to[at] = red;
                continue;
            }
            float green = g[at + plane] * (1 - p[at + plane]) * p[at + plane];
            float blue = g[at + 2 * plane] * (1 - p[at + 2 * plane]) * p[at + 2 * plane];
            to[at] = red * mix[0] + green * mix[3] + blue * mix[6];
            to[at + plane] = red * mix[1] + green * mix[4] + blue * mix[7];
            to[at + 2 * plane] = red * mix[2] + green * mix[5] + blue * mix[8];
        }
    }
}
