/* Products of a matrix with what results see, in panels of channels that stay in registers; the
   channels of a pixel side by side. */

#ifndef FEATVIZ_PRODUCTS_H
#define FEATVIZ_PRODUCTS_H

#include "common.h"

#define TOGETHER (LINE / 2) /* results that stay in registers */
#define PANEL 3             /* vectors of their channels */

/* What all results of a piece share. */
typedef struct {
    const float *weight, *bias;
    count height, length; /* rows of the kernel, and numbers in each */
    count below, step;    /* between these rows, and between results, in what they see */
    count outputs;
    float *to;
    rectifier beside;
} product;

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
INLINE void make(const product *p, const float *from, count at, count c, int many, int wide) {
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
                line value = from[k * step + x] - (line){0};
                ALL for (int v = 0; v < wide; v++)
                    total[k][v] = fused_line(total[k][v], value, factors[v]);
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
INLINE void make_row(const product *p, const float *from, count at, count c, count few, int wide) {
    count together = few < TOGETHER ? 1 : TOGETHER;
    for (count done = 0; done < few; done += together) {
        count first = least(done, few - together);
        const float *seen = from + first * p->step;
        if (together == TOGETHER)
            make(p, seen, at + first * p->outputs, c, TOGETHER, wide);
        else
            make(p, seen, at + first * p->outputs, c, 1, wide);
    }
}

/* All channels of rows of results, `further` apart in what they see. */
APART void make_rows(const product *p, const float *from, count further, count rows,
                             count columns) {
    for (count c = 0, wide; c < p->outputs; c += wide * LINE) {
        count vectors = (p->outputs - c + LINE - 1) / LINE;
        wide = vectors == 4 ? 2 : least(vectors, PANEL);
        for (count row = 0; row < rows; row++) {
            count at = row * columns * p->outputs;
            const float *seen = from + row * further;
            if (wide == 3)
                make_row(p, seen, at, c, columns, 3);
            else if (wide == 2)
                make_row(p, seen, at, c, columns, 2);
            else
                make_row(p, seen, at, c, columns, 1);
        }
    }
}

#endif
