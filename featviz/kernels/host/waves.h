/* The discrete Fourier transform of WIDE lines at once, whose length has no prime factor above 13.
 * Source: Stockham's autosort form of the mixed-radix transform; Van Loan 1992, "Computational
 * Frameworks for the Fast Fourier Transform", section 1.7. */

#ifndef FEATVIZ_WAVES_H
#define FEATVIZ_WAVES_H

#include "common.h"

#define MOST 13

/* Of each line one complex number. */
typedef struct {
    floats re, im;
} wave;

INLINE wave plus(wave a, wave b) { return (wave){a.re + b.re, a.im + b.im}; }
INLINE wave minus(wave a, wave b) { return (wave){a.re - b.re, a.im - b.im}; }
INLINE wave minus_i_times(wave a) { return (wave){a.im, -a.re}; }
INLINE wave turned(wave a, const float *turn) {
    return (wave){a.re * turn[0] - a.im * turn[1], a.re * turn[1] + a.im * turn[0]};
}

INLINE void butterfly_4(wave *x) {
    wave even = plus(x[0], x[2]), odd = plus(x[1], x[3]);
    wave even_less = minus(x[0], x[2]), odd_less = minus_i_times(minus(x[1], x[3]));
    x[0] = plus(even, odd);
    x[1] = plus(even_less, odd_less);
    x[2] = minus(even, odd);
    x[3] = minus(even_less, odd_less);
}

/* `radix` numbers in place, radix a known constant; `turns`: exp(-2 pi i k / radix), each at
 * `apart` from the one before. */
INLINE void butterfly(wave *x, count radix, const float *turns, count apart) {
    if (radix == 2) {
        wave second = x[1];
        x[1] = minus(x[0], second);
        x[0] = plus(x[0], second);
    } else if (radix == 4) {
        butterfly_4(x);
    } else if (radix == 8) {
        wave even[4] = {x[0], x[2], x[4], x[6]}, odd[4] = {x[1], x[3], x[5], x[7]};
        const float half = 0.70710678118654752f; /* the root of it */
        butterfly_4(even);
        butterfly_4(odd);
        wave second = odd[1], fourth = odd[3];
        odd[1] = (wave){half * (second.re + second.im), half * (second.im - second.re)};
        odd[2] = minus_i_times(odd[2]);
        odd[3] = (wave){half * (fourth.im - fourth.re), -half * (fourth.re + fourth.im)};
        for (count k = 0; k < 4; k++) {
            x[k] = plus(even[k], odd[k]);
            x[k + 4] = minus(even[k], odd[k]);
        }
    } else {
        wave sums[7], differences[7], first = x[0];
        for (count j = 1; j <= radix / 2; j++) {
            sums[j] = plus(x[j], x[radix - j]);
            differences[j] = minus(x[j], x[radix - j]);
            x[0] = plus(x[0], sums[j]);
        }
        for (count k = 1; k <= radix / 2; k++) {
            wave with = first, across = {{0}, {0}};
            for (count j = 1; j <= radix / 2; j++) {
                const float *turn = turns + 2 * apart * (j * k % radix);
                with.re += turn[0] * sums[j].re;
                with.im += turn[0] * sums[j].im;
                across.re -= turn[1] * differences[j].im;
                across.im += turn[1] * differences[j].re;
            }
            x[k] = plus(with, across);
            x[radix - k] = minus(with, across);
        }
    }
}

/* A part of a stage, see there; `turn`: of its second number, nothing where none is turned. */
INLINE void stage_part(const wave *restrict from, wave *restrict to, const float *turns,
                       const float *turn, count parts, count stride, count radix) {
    for (count at = 0; at < stride; at++) {
        wave x[MOST];
        ALL_SEEN for (count k = 0; k < radix; k++) x[k] = from[at + stride * parts * k];
        butterfly(x, radix, turns, stride * parts);
        to[at] = x[0];
        ALL_SEEN for (count k = 1; k < radix; k++)
            to[at + stride * k] = turn ? turned(x[k], turns + k * (turn - turns)) : x[k];
    }
}

/* One stage: `radix` transforms of a part of the length become one of the length; neighbours are
 * `stride` apart, and stride * length is the same in all stages. */
INLINE void stage(const wave *restrict from, wave *restrict to, const float *turns, count length,
                  count stride, count radix) {
    count parts = length / radix;
    stage_part(from, to, turns, 0, parts, stride, radix);
    for (count part = 1; part < parts; part++)
        stage_part(from + stride * part, to + stride * radix * part, turns,
                   turns + 2 * stride * part, parts, stride, radix);
}

/* The transform of `length` numbers, exp(-2 pi i k n / length); `turns` has those of n = 1. It
 * writes over both rooms; the result is in the one that is returned. */
static __attribute__((noinline)) wave *transformed(wave *from, wave *to, const float *turns,
                                                   count length) {
    for (count left = length, stride = 1; left > 1;) {
        count radix = left % 4 ? 2 : left % 8 || left == 16 ? 4 : 8; /* 16 is 4 * 4 */
        while (left % radix) radix++;
        switch (radix) {
        case 2: stage(from, to, turns, left, stride, 2); break;
        case 3: stage(from, to, turns, left, stride, 3); break;
        case 4: stage(from, to, turns, left, stride, 4); break;
        case 5: stage(from, to, turns, left, stride, 5); break;
        case 7: stage(from, to, turns, left, stride, 7); break;
        case 8: stage(from, to, turns, left, stride, 8); break;
        case 11: stage(from, to, turns, left, stride, 11); break;
        default: stage(from, to, turns, left, stride, 13);
        }
        left /= radix;
        stride *= radix;
        wave *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

#endif
