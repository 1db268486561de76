/* Between coefficients, half spectra, planes and colors, each way in as few passes as may be. */

#include "waves.h"

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

/* Room for the transform of planes: half of a spectrum, rows and columns filled up, lines, and what
 * becomes of a picture's planes. */
typedef struct {
    count rows, columns, kept, stride;
    float *re, *im, *planes;
    wave *lines[2];
} spectrum;

INLINE spectrum spectrum_in(float *room, count rows, count columns) {
    count kept = rows / 2 + 1, longest = rows > columns ? rows : columns;
    count stride = (columns + 2 * WIDE - 1) / (2 * WIDE) * (2 * WIDE) + 2 * WIDE;
    count size = (kept + WIDE - 1) / WIDE * WIDE * stride;
    wave *lines = (wave *)(room + 2 * size), *others = lines + longest + WIDE;
    return (spectrum){rows, columns, kept, stride, room, room + size,
                      (float *)(others + longest + WIDE), {lines, others}};
}

/* The columns' transforms, doubled, rows 0 to rows / 2: two columns are one of complex numbers. */
INLINE void transform_columns(spectrum at, const float *plane, const float *gain,
                              const float *turns) {
    for (count first = 0; first < at.columns; first += 2 * WIDE) {
        count few = at.columns - first, others = few > WIDE ? few - WIDE : 0;
        for (count row = 0, start = first; row < at.rows; row++, start += at.columns) {
            __builtin_prefetch(plane + start + 2 * WIDE); /* of the next columns */
            wave *here = at.lines[0] + row;
            here->re = load_few(plane + start, few);
            here->im = load_few(plane + start + WIDE, others);
            if (gain) {
                here->re *= load_few(gain + start, few);
                here->im *= load_few(gain + start + WIDE, others);
            }
        }
        wave *found = transformed(at.lines[0], at.lines[1], turns, at.rows);
        for (count row = 0; row < at.kept; row++) {
            wave here = found[row], there = found[row ? at.rows - row : 0];
            count to = row * at.stride + first;
            store(at.re + to, here.re + there.re);
            store(at.im + to, here.im - there.im);
            store(at.re + to + WIDE, here.im + there.im);
            store(at.im + to + WIDE, there.re - here.re);
        }
    }
}

/* WIDE neighbours of each of some rows, from WIDE columns' `value`s. */
INLINE void put(float *result, const float *gain, floats *values, count columns, count column,
                const count *rows, count number) {
    count few = columns - column;
    transpose(values);
    for (count k = 0; k < number; k++) {
        count to = rows[k] * columns + column;
        store_few(result + to, gain ? values[k] * load_few(gain + to, few) : values[k], few);
    }
}

/* The Hartley transform, real minus imaginary part, where F(-k) is the conjugate of F(k). */
INLINE void transform_rows(spectrum at, float *result, const float *gain, const float *turns,
                           float scale) {
    for (count first = 0; first < at.kept; first += WIDE) {
        count number = least(WIDE, at.kept - first), here[WIDE], there[WIDE], mirrored = 0;
        for (count k = 0; k < number; k++) here[k] = first + k;
        for (count column = 0; column < at.columns; column += WIDE) {
            floats re[WIDE], im[WIDE];
            for (count k = 0; k < WIDE; k++) {
                count from = (first + least(k, number - 1)) * at.stride + column;
                re[k] = load(at.re + from) * scale;
                im[k] = load(at.im + from) * scale;
            }
            transpose(re);
            transpose(im);
            for (count k = 0; k < WIDE; k++) at.lines[0][column + k] = (wave){re[k], im[k]};
        }
        wave *found = transformed(at.lines[0], at.lines[1], turns, at.columns);
        for (count column = 0; column < at.columns; column += WIDE) {
            floats values[WIDE];
            for (count k = 0; k < WIDE; k++) {
                wave each = found[least(column + k, at.columns - 1)];
                values[k] = each.re - each.im;
            }
            put(result, gain, values, at.columns, column, here, number);
        }
        count skipped = first == 0; /* row 0 is its own mirror image, and rows / 2 may be */
        for (count k = skipped; k < number && 2 * here[k] < at.rows; k++)
            there[mirrored++] = at.rows - here[k];
        for (count column = 0; column < at.columns; column += WIDE) {
            floats values[WIDE];
            for (count k = 0; k < WIDE; k++) {
                count from = at.columns - least(column + k, at.columns - 1);
                wave each = found[from == at.columns ? 0 : from];
                values[k] = each.re + each.im;
                if (skipped) values[k] = PICKED(values[k], values[k], 1, 2, 3, 4, 5, 6, 7, 0);
            }
            put(result, gain, values, at.columns, column, there, mirrored);
        }
    }
}

/* The sigmoid of one picture's planes, three of them mixed by the rows of `mix`, or of one. */
INLINE void squash_planes(const float *planes, const float *mix, float *result, count plane) {
    for (count at = 0; at < plane; at += WIDE) {
        count few = plane - at;
        floats first = load_few(planes + at, few);
        if (!mix) {
            store_few(result + at, sigmoid(first), few);
            continue;
        }
        floats second = load_few(planes + plane + at, few);
        floats third = load_few(planes + 2 * plane + at, few);
        for (count n = 0; n < 3; n++) {
            floats mixed = mix[3 * n] * first + mix[3 * n + 1] * second + mix[3 * n + 2] * third;
            store_few(result + n * plane + at, sigmoid(mixed), few);
        }
    }
}

/* In runs: planes whose size is a power of 2 would all ask for the same few lines of the cache. */
INLINE void unsquash_planes(const float *gradient, const float *images, const float *mix,
                            float *result, count plane) {
    count together = mix ? 3 : 1;
    for (count first = 0; first < plane; first += RUN) {
        float lines[3][RUN];
        count run = least(RUN, plane - first);
        for (count n = 0; n < together; n++) {
            const float *g = gradient + n * plane + first, *p = images + n * plane + first;
            for (count k = 0; k < run; k++) lines[n][k] = g[k] * (1 - p[k]) * p[k];
        }
        for (count n = 0; n < together; n++) {
            float *to = result + n * plane + first;
            for (count k = 0; k < run; k++)
                to[k] = !mix ? lines[0][k]
                             : lines[0][k] * mix[n] + lines[1][k] * mix[3 + n] +
                                   lines[2][k] * mix[6 + n];
        }
    }
}

/* The pictures of planes; `mix`: three rows of three weights, or nothing. */
KERNEL squashed(const float *restrict planes, const float *mix, float *restrict result,
                count number, count plane, count threads) {
    count size = (mix ? 3 : 1) * plane;
    SHARED
    for (count image = 0; image < number * plane / size; image++)
        squash_planes(planes + image * size, mix, result + image * size, plane);
}

/* The gradient at the planes of what the sigmoid made of them; `mix` is the way there's. */
KERNEL unsquashed(const float *restrict gradient, const float *restrict images, const float *mix,
                  float *restrict result, count number, count plane, count threads) {
    count size = (mix ? 3 : 1) * plane;
    SHARED
    for (count image = 0; image < number * plane / size; image++)
        unsquash_planes(gradient + image * size, images + image * size, mix, result + image * size,
                        plane);
}

/* The pictures of spectral coefficients: gain, Hartley transform, colors, sigmoid. */
KERNEL images_from_coefficients(const float *restrict coefficients, const float *restrict gain,
                                const float *mix, const float *down, const float *along,
                                float *restrict room, float *restrict result, count planes,
                                count rows, count columns, count share, count threads) {
    count together = mix ? 3 : 1, plane = rows * columns, images = planes / together;
    float scale = 0.5f / sqrtf((float)plane);
    SHARED
    for (count worker = 0; worker < threads; worker++) {
        spectrum at = spectrum_in(room + worker * share, rows, columns);
        for (count image = images * worker / threads; image < images * (worker + 1) / threads;
             image++) {
            const float *from = coefficients + image * together * plane;
            for (count n = 0; n < together; n++) {
                transform_columns(at, from + n * plane, gain, down);
                transform_rows(at, at.planes + n * plane, 0, along, scale);
            }
            squash_planes(at.planes, mix, result + image * together * plane, plane);
        }
    }
}

/* The gradient at the coefficients of pictures. */
KERNEL coefficients_gradient(const float *restrict gradient, const float *restrict images,
                             const float *restrict gain, const float *mix, const float *down,
                             const float *along, float *restrict room, float *restrict result,
                             count planes, count rows, count columns, count share, count threads) {
    count together = mix ? 3 : 1, plane = rows * columns, number = planes / together;
    float scale = 0.5f / sqrtf((float)plane);
    SHARED
    for (count worker = 0; worker < threads; worker++) {
        spectrum at = spectrum_in(room + worker * share, rows, columns);
        for (count image = number * worker / threads; image < number * (worker + 1) / threads;
             image++) {
            count first = image * together * plane;
            unsquash_planes(gradient + first, images + first, mix, result + first, plane);
            for (count n = 0; n < together; n++) {
                float *to = result + first + n * plane;
                transform_columns(at, to, 0, down);
                transform_rows(at, to, gain, along, scale);
            }
        }
    }
}
