/* Sums over windows of each channel's own values, there or back; the channels of a pixel side by
   side. */

#ifndef FEATVIZ_WINDOWS_H
#define FEATVIZ_WINDOWS_H

#include "common.h"

#define MOST 81 /* places of a window: MOST_PLACES of layout.py */
#define MANY 2  /* results, and vectors of their channels, that are made together */
#define BROAD 4
#define MOST_TAPS 5 /* places of a row of a window whose results are made in groups */
#define GROUP 8 /* results whose windows overlap, that are made together; or half as many */

/* A window, the factors of its places (place, channel), and its turns. */
typedef struct {
    const float *weight, *bias;
    count height, width, down, right, above, left, channels;
    int is_back;
} window;

/* Which value result `at` sees through a place of the window in one direction, or, on the way back,
   which result sees value `at` through it; -1 where there is none of `length`. */
INLINE int32_t seen(count at, count place, count stride, count padding, count length, int is_back) {
    count there = is_back ? at + padding - place : at * stride - padding + place;
    if (is_back && (there < 0 || there % stride)) return -1;
    there = is_back ? there / stride : there;
    return there >= 0 && there < length ? (int32_t)there : -1;
}

/* For each of a row's results and each column of the window: the column of what is summed. */
INLINE void find_columns(const window *w, count columns, count out_columns, int32_t *across) {
    for (count column = 0; column < out_columns; column++)
        for (count x = 0; x < w->width; x++)
            across[column * w->width + x] =
                seen(column, x, w->right, w->left, columns, w->is_back);
}

/* Where the rows lie that a row of results sees, 0 for those beyond; `maps` begin with row `top`,
   `step` apart. */
INLINE void find_rows(const window *w, count row, count rows, const float *maps, count top,
                      count step, const float **from_row) {
    for (count y = 0; y < w->height; y++) {
        count at = seen(row, y, w->down, w->above, rows, w->is_back);
        from_row[y] = at < 0 ? 0 : maps + (at - top) * step;
    }
}

/* What the results of a row share. */
typedef struct {
    const float *bias;
    count from_step, to_step; /* between results, in what is summed and in what is made */
    count begin, channels;    /* the first channel, and the one after the last */
    float *to;
    rectifier beside;
} sum;

/* The sums of `many` results over `taps` places, so far from `from`, from channel `c` on for `wide`
   vectors of channels; `few` numbers of the last one where it is not whole. They lie `at` places
   from the first of their row. */
INLINE void sums(const sum *s, const float *from, const count *far, const float *const *weight,
                 count taps, count at, count c, int many, int wide, count few) {
    floats total[MANY][BROAD];
    const float *values = s->beside.values;
    ALL for (int k = 0; k < many; k++)
        ALL for (int v = 0; v < wide; v++) {
            count next = at + c + (k + many) * s->to_step + v * WIDE;
            if (v % 2 == 0) { /* two vectors are a line of the cache */
                __builtin_prefetch(s->to + next, 1);
                if (values) __builtin_prefetch(values + next);
            }
            total[k][v] = s->bias ? load_few(s->bias + c + v * WIDE, few) : whole(0);
        }
    for (count tap = 0; tap < taps; tap++) {
        const float *here = from + far[tap] + c, *factors = weight[tap] + c;
        ALL for (int v = 0; v < wide; v++) {
            floats factor = load_few(factors + v * WIDE, few);
            ALL for (int k = 0; k < many; k++)
                total[k][v] = fused(total[k][v], factor,
                                     load_few(here + k * s->from_step + v * WIDE, few));
        }
    }
    ALL for (int k = 0; k < many; k++)
        ALL for (int v = 0; v < wide; v++) {
            count place = at + c + k * s->to_step + v * WIDE;
            store_few(s->to + place, rectified(total[k][v], &s->beside, place, few), few);
        }
}

/* All channels of them. */
INLINE void all_sums(const sum *s, const float *from, const count *far, const float *const *weight,
                     count taps, count at, int many) {
    count c = s->begin, channels = s->channels;
    for (; c + BROAD * WIDE <= channels; c += BROAD * WIDE)
        sums(s, from, far, weight, taps, at, c, many, BROAD, WIDE);
    for (; c + WIDE <= channels; c += WIDE) sums(s, from, far, weight, taps, at, c, many, 1, WIDE);
    if (c < channels) sums(s, from, far, weight, taps, at, c, many, 1, channels - c);
}

/* Results of a row that are `apart` from each other, `number` from `first` on, and which of the
   `columns` they see: the first of them sees `seen_first` through its first place, `place`, and
   what is next to it through the others, `taps` in all and `turn` apart; each further result sees
   what is `step` further. On the way back all of it is seen in a mirror (-1), from the last result
   on. */
typedef struct {
    count first, apart, number, columns, seen_first, place, taps, turn, step, mirror;
} overlap;

INLINE overlap overlap_of(const window *w, count first, count apart, count columns,
                          count out_columns) {
    count number = (out_columns - first + apart - 1) / apart;
    overlap o = {first, apart, number, columns, -w->left, 0, w->width, 1, w->right, 1};
    if (!w->is_back) return o;
    o.place = (first + w->left) % apart;
    o.taps = (w->width - o.place + apart - 1) / apart;
    o.first = first + (number - 1) * apart;
    o.seen_first = (first + w->left - o.place) / apart + number - 1;
    o.turn = apart, o.step = 1, o.mirror = -1;
    return o;
}

/* The sums of `many` results, from the `start`-th on, at LINE channels from `c` on: what several of
   them see is read once. Every sum is taken in the same order as by itself. */
INLINE void overlapping(const window *w, const sum *s, const float *const *from_row, count stride,
                        const overlap *o, count start, count c, int many, int taps, int step) {
    line total[GROUP];
    count seen = o->seen_first + o->mirror * step * start, next = o->mirror * stride;
    count low = o->mirror > 0 ? -seen : seen - o->columns + 1, high = low + o->columns;
    ALL for (int k = 0; k < many; k++) total[k] = s->bias ? load_line(s->bias + c) : (line){0};
    for (count y = 0; y < w->height; y++) {
        if (!from_row[y]) continue;
        const float *weight = w->weight + (y * w->width + o->place) * w->channels + c;
        const float *from = from_row[y] + seen * stride + c;
        line factors[MOST_TAPS];
        ALL for (int t = 0; t < taps; t++) {
            factors[t] = load_line(weight + t * o->turn * w->channels);
            IN_REGISTER(factors[t]);
        }
        ALL_SEEN for (int j = 0; j < step * (many - 1) + taps; j++) {
            if (j < low || j >= high) continue;
            line value = load_line(from + j * next);
            IN_REGISTER(value);
            ALL for (int k = 0; k < many; k++) {
                int t = j - step * k;
                if (t >= 0 && t < taps) total[k] = fused_line(total[k], value, factors[t]);
            }
        }
    }
    count further = o->mirror * s->to_step;
    count at = (o->first + o->mirror * start * o->apart) * w->channels + c;
    rectifier beside = s->beside; /* a copy, which no store may change */
    float *to = s->to;
    ALL for (int k = 0; k < many; k++, at += further)
        store_line(to + at, rectified_line(total[k], &beside, at));
}

/* Groups of them; some of the last group a second time, so that it is whole. */
INLINE void overlapping_groups(const window *w, const sum *s, const float *const *from_row,
                               count stride, const overlap *o, int taps, int step) {
    for (count done = 0, few; done < o->number; done += few) {
        few = o->number < GROUP || o->number - done <= GROUP / 2 ? GROUP / 2 : GROUP;
        count start = least(done, o->number - few);
        for (count c = 0; c < s->begin; c += LINE)
            if (few == GROUP)
                overlapping(w, s, from_row, stride, o, start, c, GROUP, taps, step);
            else
                overlapping(w, s, from_row, stride, o, start, c, GROUP / 2, taps, step);
    }
}

/* Sums the channels before `begin` so, and says whether it did: the results are enough, and of a
   kind that is compiled. */
APART int overlapping_row(const window *w, const sum *s, const float *const *from_row,
                          count stride, overlap o) {
    if (o.number < GROUP / 2) return 0;
#define KIND(TAPS, STEP)                                                                         \
    if (o.taps == TAPS && o.step == STEP) {                                                      \
        overlapping_groups(w, s, from_row, stride, &o, TAPS, STEP);                              \
        return 1;                                                                                \
    }
    KIND(1, 1) KIND(2, 1) KIND(3, 1) KIND(5, 1) KIND(3, 2) KIND(5, 2)
#undef KIND
    return 0;
}

/* A row of results, from the rows of what is summed that its window sees (0 for none), of so many
   columns, `stride` between their pixels. */
APART void sum_row(const window *w, const float *const *from_row, count columns, count stride,
                   const int32_t *across, count out_columns, float *to, rectifier beside) {
    count apart = w->is_back ? w->right : 1; /* results side by side in this see values that are */
    count from_step = (w->is_back ? 1 : w->right) * stride;
    sum s = {w->bias, from_step, apart * w->channels, 0, w->channels, to, beside};
    const float *origin = 0;
    for (count y = 0; y < w->height && !origin; y++) origin = from_row[y];
    for (count first = 0; first < least(apart, out_columns); first++) {
        s.begin = w->channels / LINE * LINE;
        overlap o = overlap_of(w, first, apart, columns, out_columns);
        if (!overlapping_row(w, &s, from_row, stride, o)) s.begin = 0;
        if (s.begin == w->channels) continue;
        const float *own[MOST], *from = origin;
        count far[MOST], taps = 0, before = -1;
        for (count column = first; column < out_columns;) {
            count many = MANY, last = column + (MANY - 1) * apart;
            if (last >= out_columns) many = 1;
            int is_known = before >= 0; /* which places there are, as of the one before */
            const int32_t *here = across + column * w->width;
            for (count x = 0; x < w->width; x++) {
                int is_here = here[x] >= 0;
                if (many > 1 && is_here != (across[last * w->width + x] >= 0)) many = 1;
                if (is_known && is_here != (across[before * w->width + x] >= 0)) is_known = 0;
            }
            if (is_known) from += (column - before) / apart * s.from_step;
            if (!is_known) {
                from = origin, taps = 0;
                for (count y = 0; y < w->height; y++)
                    for (count x = 0; x < w->width; x++) {
                        int is_there = from_row[y] && here[x] >= 0;
                        if (!is_there) continue;
                        far[taps] = from_row[y] - origin + here[x] * stride;
                        own[taps++] = w->weight + (y * w->width + x) * w->channels;
                    }
            }
            if (many == MANY)
                all_sums(&s, from, far, own, taps, column * w->channels, MANY);
            else
                all_sums(&s, from, far, own, taps, column * w->channels, 1);
            before = column;
            column += many * apart;
        }
    }
}

#endif
