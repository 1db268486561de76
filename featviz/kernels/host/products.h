/* Products of a matrix with what results see, in panels of channels that stay in registers; the
   channels of a pixel side by side. Factors are numbers, or pairs of numbers rounded to bfloat16:
   a pair takes the place of one. Of pairs, numbers below 2**-126 are zero where the processor
   multiplies pairs itself. */

#ifndef FEATVIZ_PRODUCTS_H
#define FEATVIZ_PRODUCTS_H

#include "common.h"

#define TOGETHER (LINE / 2) /* results that stay in registers; winograd.py has both */
#define PANEL 3             /* vectors of their channels */

typedef int32_t int_line __attribute__((vector_size(4 * LINE)));

/* What all results of a piece share; lengths and steps are in places. */
typedef struct {
    const float *weight, *bias;
    count height, length; /* rows of the kernel, and places in each */
    count below, step;    /* between these rows, and between results, in what they see */
    count outputs, in_pairs;
    float *to;
    rectifier beside;
} product;

/* The nearest bfloat16, the even one of two. */
INLINE uint16_t rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (value != value) return (uint16_t)(bits >> 16 | 64); /* NaN stays */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* An even number of numbers in pairs, which may come to lie where the numbers are. */
INLINE void pair_up(const float *from, count number, float *to) {
#ifdef __AVX512BF16__
    for (count at = 0; at < number; at += 2 * LINE) {
        uint32_t few = number - at < 2 * LINE ? (1u << (number - at)) - 1 : ~0u;
        uint32_t half = number - at < 2 * LINE ? (1u << (number - at) / 2) - 1 : ~0u;
        line first = _mm512_maskz_loadu_ps((__mmask16)few, from + at);
        line second = _mm512_maskz_loadu_ps((__mmask16)(few >> LINE), from + at + LINE);
        _mm512_mask_storeu_epi32(to + at / 2, (__mmask16)half,
                                 (__m512i)_mm512_cvtne2ps_pbh(second, first));
    }
#else
    uint16_t *half = (uint16_t *)to;
    for (count at = 0; at < number; at++) half[at] = rounded(from[at]);
#endif
}

/* The same of the channels of pixels, `stride` apart. */
INLINE void pair_up_pixels(const float *from, count stride, count channels, count pixels,
                           float *to) {
    if (stride == channels)
        pair_up(from, pixels * channels, to);
    else
        for (count n = 0; n < pixels; n++)
            pair_up(from + n * stride, channels, to + n * channels / 2);
}

/* A place of what is seen, as often as a line has numbers. */
INLINE line spread(const float *at, int in_pairs) {
    return in_pairs ? (line)(*(const int32_t *)at - (int_line){0}) : *at - (line){0};
}

/* total + a * b: of pairs the second product is added first, each sum is rounded. */
INLINE line with_product(line total, line a, line b, int in_pairs) {
    if (!in_pairs) return fused_line(total, a, b);
#ifdef __AVX512BF16__
    return _mm512_dpbf16_ps(total, (__m512bh)a, (__m512bh)b);
#else
    int_line second = (int32_t)0xffff0000 - (int_line){0}, pairs_a = (int_line)a;
    int_line pairs_b = (int_line)b;
    total = fused_line(total, (line)(pairs_a & second), (line)(pairs_b & second));
    return fused_line(total, (line)(pairs_a << 16), (line)(pairs_b << 16));
#endif
}

/* The last `few` channels of a result, from place `at` on. */
APART void leave_some(const product *p, line found, count at, count few) {
    parts each = {found};
    ALL for (int v = 0; v < LINE; v += WIDE) {
        if (few <= v) break;
        floats mine = rectified(each.part[v / WIDE], &p->beside, at + v, few - v);
        store_few(p->to + at + v, mine, few - v);
    }
}

/* `many` results side by side, which see what lies at `from` and lie `at` places from the first:
   their channels from `c` on for `wide` vectors. Every sum is taken in one order. */
INLINE void make(const product *p, const float *from, count at, count c, int many, int wide,
                 int in_pairs) {
    line total[TOGETHER][PANEL];
    count seen = p->height * p->length, step = p->step, outputs = p->outputs;
    const float *weight = p->weight + c * seen;
    ALL for (int v = 0; v < wide; v++)
        ALL for (int k = 0; k < many; k++)
            total[k][v] = p->bias ? load_line(p->bias + c + v * LINE) : (line){0};
    for (count y = 0; y < p->height; y++, from += p->below)
        for (count x = 0; x < p->length; x++, weight += LINE) {
            line factors[PANEL];
            ALL for (int v = 0; v < wide; v++) {
                factors[v] = load_line(weight + v * seen * LINE);
                IN_REGISTER(factors[v]);
            }
            ALL for (int k = 0; k < many; k++) {
                line value = spread(from + k * step + x, in_pairs);
                ALL for (int v = 0; v < wide; v++)
                    total[k][v] = with_product(total[k][v], value, factors[v], in_pairs);
            }
        }
    int is_whole = outputs - c >= wide * LINE;
    rectifier beside = p->beside; /* a copy, which no store may change */
    float *to = p->to;
    ALL for (int k = 0; k < many; k++)
        ALL for (int v = 0; v < wide; v++) {
            count first = c + v * LINE, place = at + k * outputs + first;
            if (is_whole)
                store_line(to + place, rectified_line(total[k][v], &beside, place));
            else if (first < outputs)
                leave_some(p, total[k][v], place, least(outputs - first, LINE));
        }
}

/* `few` results side by side; some of the last group a second time, so that it is whole. */
INLINE void make_row(const product *p, const float *from, count at, count c, count few, int wide,
                     int in_pairs) {
    count together = few < TOGETHER ? 1 : TOGETHER;
    for (count done = 0; done < few; done += together) {
        count first = least(done, few - together);
        const float *seen = from + first * p->step;
        if (together == TOGETHER)
            make(p, seen, at + first * p->outputs, c, TOGETHER, wide, in_pairs);
        else
            make(p, seen, at + first * p->outputs, c, 1, wide, in_pairs);
    }
}

/* Vectors of the next channels that are made together, where so many channels are left. */
INLINE count wide_panel(count left) {
    count vectors = (left + LINE - 1) / LINE;
    return vectors == 4 ? 2 : least(vectors, PANEL);
}

/* All channels of rows of results, `further` apart in what they see. */
INLINE void make_rows_of(const product *p, const float *from, count further, count rows,
                         count columns, int in_pairs) {
    for (count c = 0, wide; c < p->outputs; c += wide * LINE) {
        wide = wide_panel(p->outputs - c);
        for (count row = 0; row < rows; row++) {
            count at = row * columns * p->outputs;
            const float *seen = from + row * further;
            if (wide == 3)
                make_row(p, seen, at, c, columns, 3, in_pairs);
            else if (wide == 2)
                make_row(p, seen, at, c, columns, 2, in_pairs);
            else
                make_row(p, seen, at, c, columns, 1, in_pairs);
        }
    }
}

APART void make_rows(const product *p, const float *from, count further, count rows,
                     count columns) {
    if (p->in_pairs)
        make_rows_of(p, from, further, rows, columns, 1);
    else
        make_rows_of(p, from, further, rows, columns, 0);
}

#endif
