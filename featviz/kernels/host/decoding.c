/* Between coefficients, half spectra, planes and colors, each way in as few passes as may be. */

#include "waves.h"

#define RUN 128 /* numbers of a row that are handled together */

/* exp, off by less than 2 units in the last place: 2**n times the exponential of what is left.
   Added to a number so large, n is in the last bits of the sum. NaN stays.
   Source: Cephes, expf (S. L. Moshier). */
INLINE floats exponential(floats value) {
    value = smaller(whole(88.0f), larger(whole(-87.0f), value));
    const float large = 0x1.8p23f;
    floats sought = value * 1.44269504f + large, n = sought - large;
    floats rest = value - n * 0.693359375f - n * -2.12194440e-4f;
    floats sum = whole(1.9875691500e-4f);
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    return sum * (floats)(((ints)sought << 23) + (127 << 23));
}

INLINE floats sigmoid_of_negative(floats value) { return 1.0f / (1.0f + exponential(value)); }

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

/* Transforms of columns from `first` on, `few` and `others` of them beside each other, doubled. */
INLINE void transform_beside(spectrum at, const float *plane, const float *gain,
                             const float *turns, count first, count few, count others) {
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

/* The columns' transforms, doubled, rows 0 to rows / 2: two columns are one of complex numbers. */
INLINE void transform_columns(spectrum at, const float *plane, const float *gain,
                              const float *turns) {
    count first = 0;
    for (; first + 2 * WIDE <= at.columns; first += 2 * WIDE)
        transform_beside(at, plane, gain, turns, first, WIDE, WIDE);
    if (first < at.columns) {
        count few = at.columns - first;
        transform_beside(at, plane, gain, turns, first, few, few > WIDE ? few - WIDE : 0);
    }
}

/* `few` neighbours in each of some rows, from as many columns' `values`: from the first row at
   `result` on, the next ones `step` numbers later. */
INLINE void put(float *result, const float *gain, floats *values, count step, count number,
                count few) {
    transpose(values);
    for (count k = 0; k < number; k++, result += step, gain += gain ? step : 0)
        store_few(result, gain ? values[k] * load_few(gain, few) : values[k], few);
}

/* Rows that are put, `number` of them from `here` on, and their `mirrored` images upwards from
   `there`. */
typedef struct {
    float *here, *there;
    const float *gain_here, *gain_there;
    count number, mirrored, is_first;
} rows_put;

/* The Hartley transform, real minus imaginary part, where F(-k) is the conjugate of F(k): `few`
   columns, of the transforms that were `found`. */
INLINE void put_columns(rows_put to, const wave *found, count columns, count column, count few) {
    floats values[WIDE], others[WIDE];
    for (count k = 0; k < WIDE; k++) {
        count at = column + least(k, few - 1);
        wave here = found[at], there = found[at ? columns - at : 0];
        values[k] = here.re - here.im;
        others[k] = there.re + there.im;
        if (to.is_first) others[k] = PICKED(others[k], others[k], 1, 2, 3, 4, 5, 6, 7, 0);
    }
    const float *gain_here = to.gain_here ? to.gain_here + column : 0;
    const float *gain_there = to.gain_there ? to.gain_there + column : 0;
    put(to.here + column, gain_here, values, columns, to.number, few);
    put(to.there + column, gain_there, others, -columns, to.mirrored, few);
}

/* The transforms of `number` rows from `first` on, and of their mirror images: row 0 is its own,
   and rows / 2 may be. */
INLINE void transform_along(spectrum at, float *result, const float *gain, const float *turns,
                            float scale, count first, count number) {
    count is_first = first == 0, is_last = 2 * (first + number - 1) == at.rows;
    count columns = at.columns, column = 0;
    count here = first * columns, there = (at.rows - first - is_first) * columns;
    for (; column < columns; column += WIDE) {
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
    wave *found = transformed(at.lines[0], at.lines[1], turns, columns);
    rows_put to = {result + here, result + there, gain ? gain + here : 0, gain ? gain + there : 0,
                   number, number - is_first - is_last, is_first};
    for (column = 0; column + WIDE <= columns; column += WIDE)
        put_columns(to, found, columns, column, WIDE);
    if (column < columns) put_columns(to, found, columns, column, columns - column);
}

INLINE void transform_rows(spectrum at, float *result, const float *gain, const float *turns,
                           float scale) {
    count first = 0;
    for (; first + WIDE <= at.kept; first += WIDE)
        transform_along(at, result, gain, turns, scale, first, WIDE);
    if (first < at.kept) transform_along(at, result, gain, turns, scale, first, at.kept - first);
}

/* The sigmoid of one picture's planes, `few` numbers of each; `less`: the negative of three rows
   that mix three planes, or nothing for one plane. */
INLINE void squash_few(const float *planes, const float *less, float *result, count plane,
                       count few) {
    floats first = load_few(planes, few);
    if (!less) {
        store_few(result, sigmoid_of_negative(-first), few);
        return;
    }
    floats second = load_few(planes + plane, few), third = load_few(planes + 2 * plane, few);
    for (count n = 0; n < 3; n++, less += 3, result += plane)
        store_few(result, sigmoid_of_negative(less[0] * first + less[1] * second + less[2] * third),
                  few);
}

INLINE void squash_planes(const float *planes, const float *mix, float *result, count plane) {
    float less[9];
    count at = 0;
    for (count k = 0; k < 9 && mix; k++) less[k] = -mix[k];
    for (; mix && at + WIDE <= plane; at += WIDE)
        squash_few(planes + at, less, result + at, plane, WIDE);
    for (; at < plane; at += WIDE)
        squash_few(planes + at, mix ? less : 0, result + at, plane, plane - at);
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
