/* Convolutions as products of a matrix with what each result sees, in panels of channels that stay
   in registers; the channels of a pixel side by side. */

#include "common.h"

#ifdef __AVX512F__
#define LINE 16 /* numbers in a vector */
#define MANY 8  /* results that are made together */
#else
#define LINE 8
#define MANY 4
#endif
#define BROAD 3    /* vectors of their channels */
#define NEAR 24576 /* bytes of pixels and results that stay in the cache beside the matrix */

typedef float line __attribute__((vector_size(4 * LINE)));
typedef float unaligned_line __attribute__((vector_size(4 * LINE), aligned(4)));
typedef union {
    line whole;
    floats part[LINE / WIDE];
} parts;

INLINE line load_line(const float *from) { return *(const unaligned_line *)from; }

/* What all results of a call share. */
typedef struct {
    const float *weight, *bias;
    range within;
    count height, length; /* rows of the kernel, and numbers in each */
    count below, step;    /* between these rows, and between results, in what they see */
    count outputs;
} product;

/* What comes of a result's channels from `c` on, the last `few` of all: see `held_or_passed`. */
INLINE void leave(const product *p, line found, const float *values, float *to, count c, count few) {
    parts each = {found};
    ALL for (int at = 0; at < LINE; at += WIDE) {
        if (few <= at) break;
        floats mine = each.part[at / WIDE];
        mine = held_or_passed(mine, values ? values + c + at : 0, p->within, few - at);
        store_few(to + c + at, mine, few - at);
    }
}

/* `many` results side by side that see what lies at `from`, their channels from `c` on for `wide`
   vectors. Every sum is taken in one order. */
INLINE void make(const product *p, const float *from, const float *values, float *to, count c,
                 int many, int wide) {
    line total[MANY][BROAD];
    count seen = p->height * p->length, step = p->step, outputs = p->outputs;
    const float *weight = p->weight + c * seen;
    ALL for (int v = 0; v < wide; v++)
        ALL for (int k = 0; k < many; k++)
            total[k][v] = p->bias ? load_line(p->bias + c + v * LINE) : (line){0};
    for (count y = 0; y < p->height; y++, from += p->below)
        for (count x = 0; x < p->length; x++, weight += LINE) {
            line factors[BROAD];
            ALL for (int v = 0; v < wide; v++) {
                factors[v] = load_line(weight + v * seen * LINE);
                IN_REGISTER(factors[v]);
            }
            ALL for (int k = 0; k < many; k++) {
                line value = from[k * step + x] - (line){0};
                ALL for (int v = 0; v < wide; v++) total[k][v] += value * factors[v];
            }
        }
    int is_whole = outputs - c >= wide * LINE;
    ALL for (int k = 0; k < many; k++) {
        const float *value = values ? values + k * outputs : 0;
        ALL for (int v = 0; v < wide; v++) {
            count at = c + v * LINE, few = is_whole ? LINE : outputs - at;
            if (is_whole)
                leave(p, total[k][v], value, to + k * outputs, at, LINE);
            else if (few > 0)
                leave(p, total[k][v], value, to + k * outputs, at, few);
        }
    }
}

/* `few` results side by side; some of the last group a second time, so that it is whole. */
INLINE void make_row(const product *p, const float *from, const float *values, float *to, count c,
                     count few, int wide) {
    count together = few < MANY ? 1 : MANY;
    for (count done = 0; done < few; done += together) {
        count at = least(done, few - together), to_at = at * p->outputs;
        const float *value = values ? values + to_at : 0;
        if (together == MANY)
            make(p, from + at * p->step, value, to + to_at, c, MANY, wide);
        else
            make(p, from + at * p->step, value, to + to_at, c, 1, wide);
    }
}

/* All channels of rows of results, `further` apart in what they see. */
static void make_rows(const product *p, const float *from, count further, const float *values,
                      float *to, count rows, count columns) {
    for (count c = 0, wide; c < p->outputs; c += wide * LINE) {
        count vectors = (p->outputs - c + LINE - 1) / LINE;
        wide = vectors == 4 ? 2 : least(vectors, BROAD);
        for (count row = 0; row < rows; row++) {
            count at = row * columns * p->outputs;
            const float *seen = from + row * further, *value = values ? values + at : 0;
            if (wide == 3)
                make_row(p, seen, value, to + at, c, columns, 3);
            else if (wide == 2)
                make_row(p, seen, value, to + at, c, columns, 2);
            else
                make_row(p, seen, value, to + at, c, columns, 1);
        }
    }
}

/* (output, what it sees) as the products take it: by vector of outputs, zeros after the last. */
KERNEL pack(const float *restrict weight, float *restrict packed, count outputs, count length,
            count threads) {
    (void)threads;
    for (count c = 0; c < (outputs + LINE - 1) / LINE * LINE; c++)
        for (count at = 0; at < length; at++)
            packed[(c / LINE * length + at) * LINE + c % LINE] =
                c < outputs ? weight[c * length + at] : 0;
}

/* A product for each pixel: what a kernel of one place makes. A bias has room for whole vectors.
   Strides are those of `maps`; `values` and results are dense. `weight_step` lies between the
   matrices of one picture and the next. */
KERNEL pointwise(const float *restrict maps, const float *restrict weight,
                 const float *restrict bias, const float *restrict values, float *restrict result,
                 float low, float high, count batch, count inputs, count outputs, count pixels,
                 count image_stride, count stride, count weight_step, count threads) {
    count block = NEAR / 4 / (inputs + outputs), share = (pixels + threads - 1) / threads;
    if (batch < threads) block = least(block, share);
    block = block < MANY ? MANY : block / MANY * MANY;
    count blocks = (pixels + block - 1) / block;
    SHARED_2
    for (count image = 0; image < batch; image++) {
        for (count at = 0; at < blocks; at++) {
            const float *own = weight + image * weight_step;
            product p = {own, bias, {low, high}, 1, inputs, 0, stride, outputs};
            count first = at * block, here = (image * pixels + first) * outputs;
            const float *from = maps + image * image_stride + first * stride;
            make_rows(&p, from, 0, values ? values + here : 0, result + here, 1,
                      least(block, pixels - first));
        }
    }
}

/* `few` rows of a map from `top` on, framed by zeros where it ends. */
static void frame(const float *restrict maps, count stride, count inputs, count rows, count columns,
                  float *restrict room, count top, count left, count few, count room_columns) {
    count number = sizeof(float), first = left > 0 ? left : 0;
    count last = least(room_columns, columns + left), inner = last - first;
    for (count y = 0; y < few; y++) {
        float *to = room + y * room_columns * inputs;
        const float *from = maps + ((top + y) * columns + first - left) * stride;
        if (top + y < 0 || top + y >= rows || inner <= 0) {
            memset(to, 0, (size_t)(number * room_columns * inputs));
            continue;
        }
        memset(to, 0, (size_t)(number * first * inputs));
        if (stride == inputs)
            memcpy(to + first * inputs, from, (size_t)(number * inner * inputs));
        else
            for (count x = 0; x < inner; x++)
                memcpy(to + (first + x) * inputs, from + x * stride, (size_t)(number * inputs));
        memset(to + last * inputs, 0, (size_t)(number * (room_columns - last) * inputs));
    }
}

/* Convolutions with larger kernels, (row, column, input). Each thread has `share` of the room, for
   what `tall` rows of results see. The rest is as for `pointwise`. */
KERNEL convolution(const float *restrict maps, const float *restrict weight,
                   const float *restrict bias, const float *restrict values,
                   float *restrict result, float low, float high, float *restrict room,
                   count height, count width, count down, count right, count above, count left,
                   count batch, count inputs, count rows, count columns, count image_stride,
                   count stride, count outputs, count out_rows, count out_columns, count tall,
                   count share, count threads) {
    count room_columns = (out_columns - 1) * right + width, across = room_columns * inputs;
    count strips = (out_rows + tall - 1) / tall, pieces = batch * strips;
    product p = {weight, bias, {low, high}, height, width * inputs, across, right * inputs, outputs};
    SHARED
    for (count worker = 0; worker < threads; worker++) {
        float *own = room + worker * share;
        count end = pieces * (worker + 1) / threads;
        for (count piece = pieces * worker / threads; piece < end; piece++) {
            count image = piece / strips, first = piece % strips * tall;
            count few = least(tall, out_rows - first);
            frame(maps + image * image_stride, stride, inputs, rows, columns, own,
                  first * down - above, left, (few - 1) * down + height, room_columns);
            count here = (image * out_rows + first) * out_columns * outputs;
            make_rows(&p, own, down * across, values ? values + here : 0, result + here, few,
                      out_columns);
        }
    }
}
