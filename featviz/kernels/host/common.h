/* What all kernels need: names that are seen from outside, numbers side by side, shared work. */

#ifndef FEATVIZ_COMMON_H
#define FEATVIZ_COMMON_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

#define KERNEL __attribute__((visibility("default"))) void
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline, unused)) /* compiled once, not for each caller */
#define SHARED _Pragma("omp parallel for num_threads((int)threads) schedule(static)")
#define SHARED_2 _Pragma("omp parallel for collapse(2) num_threads((int)threads) schedule(static)")

#define ALL _Pragma("GCC unroll 8") /* short loops over what then stays in registers */
#define ALL_SEEN _Pragma("GCC unroll 24") /* a few more */

#ifdef __AVX__
#define IN_REGISTER(vector) __asm__("" : "+v"(vector)) /* so that memory is asked for it once */
#else
#define IN_REGISTER(vector)
#endif

typedef int64_t count;

/* Vectors of the compiler's own kind (GCC, Clang): on every processor, one way to compute. */
#define WIDE 8
typedef float floats __attribute__((vector_size(4 * WIDE)));
typedef int32_t ints __attribute__((vector_size(4 * WIDE)));
typedef float unaligned_floats __attribute__((vector_size(4 * WIDE), aligned(4)));

INLINE count least(count a, count b) { return a < b ? a : b; }
INLINE floats whole(float value) { return value - (floats){0}; }
#ifdef __AVX__
INLINE floats smaller(floats a, floats b) { return _mm256_min_ps(a, b); }
INLINE floats larger(floats a, floats b) { return _mm256_max_ps(a, b); }
INLINE floats floored(floats value) { return _mm256_floor_ps(value); }
#else
INLINE floats chosen(ints is_first, floats first, floats second) {
    return (floats)((is_first & (ints)first) | (~is_first & (ints)second));
}
INLINE floats smaller(floats a, floats b) { return chosen(a < b, a, b); }
INLINE floats larger(floats a, floats b) { return chosen(a > b, a, b); }
INLINE floats floored(floats value) {
    floats cut = __builtin_convertvector(__builtin_convertvector(value, ints), floats);
    return cut + __builtin_convertvector(cut > value, floats); /* true is -1 */
}
#endif
/* total + a * b, in one rounding where the processor has it: left to itself a compiler chooses here
   so and there so. */
INLINE floats fused(floats total, floats a, floats b) {
#ifdef __FMA__
    return _mm256_fmadd_ps(a, b, total);
#else
    return total + a * b;
#endif
}
INLINE floats load(const float *from) { return *(const unaligned_floats *)from; }
INLINE void store(float *to, floats value) { *(unaligned_floats *)to = value; }

/* The widest vectors that the processor has. */
#ifdef __AVX512F__
#define LINE 16 /* numbers in one */
#else
#define LINE 8
#endif
typedef float line __attribute__((vector_size(4 * LINE)));
typedef float unaligned_line __attribute__((vector_size(4 * LINE), aligned(4)));
typedef union {
    line whole;
    floats part[LINE / WIDE];
} parts;

#if LINE > WIDE
INLINE line fused_line(line total, line a, line b) { return _mm512_fmadd_ps(a, b, total); }
#else
#define fused_line fused
#endif
INLINE line load_line(const float *from) { return *(const unaligned_line *)from; }
INLINE void store_line(float *to, line value) { *(unaligned_line *)to = value; }

#ifdef __clang__
#define PICKED(first, second, ...) __builtin_shufflevector(first, second, __VA_ARGS__)
#else
#define PICKED(first, second, ...) __builtin_shuffle(first, second, (ints){__VA_ARGS__})
#endif

/* WIDE rows become WIDE columns. */
INLINE void transpose(floats *x) {
    floats pairs[WIDE], fours[WIDE];
    for (int k = 0; k < WIDE; k += 2) {
        pairs[k] = PICKED(x[k], x[k + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[k + 1] = PICKED(x[k], x[k + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int k = 0; k < WIDE; k += 4)
        for (int half = 0; half < 2; half++) {
            floats first = pairs[k + half], second = pairs[k + half + 2];
            fours[k + 2 * half] = PICKED(first, second, 0, 1, 8, 9, 4, 5, 12, 13);
            fours[k + 2 * half + 1] = PICKED(first, second, 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int k = 0; k < WIDE / 2; k++) {
        x[k] = PICKED(fours[k], fours[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        x[k + 4] = PICKED(fours[k], fours[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* Whether any of some numbers is not zero. */
APART int stirs(const float *values, count number) {
    for (count first = 0; first < number; first += 8 * WIDE) {
        count end = least(first + 8 * WIDE, number);
        int32_t found = 0;
        for (count k = first; k < end; k++) found |= values[k] != 0;
        if (found) return 1;
    }
    return 0;
}

/* `few` numbers, zeros after them. */
INLINE floats load_few(const float *from, count few) {
    floats found = {0};
    if (few >= WIDE) return load(from);
    for (count k = 0; k < few; k++) found[k] = from[k];
    return found;
}

INLINE void store_few(float *to, floats value, count few) {
    if (few >= WIDE)
        store(to, value);
    else
        for (count k = 0; k < few; k++) to[k] = value[k];
}

/* What is done with results, as they are stored, for the rectifier beside them. On the way there
   they are held within bounds. On the way back a gradient passes where the rectifier's results,
   which have the same places, are within them (NaN is): told by the `values` or by `marks`, a bit
   each, which were set on the way there. */
typedef struct {
    float low, high;
    const float *values;
    uint8_t *marks;
    int is_back;
} rectifier;

/* The rectifier of results that begin `at` places later. */
INLINE rectifier from_place(rectifier r, count at) {
    if (r.values) r.values += at;
    if (r.marks) r.marks += at / WIDE;
    return r;
}

INLINE ints is_within(floats value, const rectifier *r) {
    return ~((value <= whole(r->low)) | (value >= whole(r->high)));
}

INLINE uint8_t marked(ints is_set) {
#ifdef __AVX__
    return (uint8_t)_mm256_movemask_ps((floats)is_set);
#else
    unsigned mark = 0;
    for (int k = 0; k < WIDE; k++) mark |= (unsigned)(is_set[k] & 1) << k;
    return (uint8_t)mark;
#endif
}

/* Results from place `at` on, a multiple of WIDE where there are marks. */
INLINE floats rectified(floats made, const rectifier *r, count at, count few) {
    if (r->is_back && r->marks) {
        ints bits = {1, 2, 4, 8, 16, 32, 64, 128};
        return (floats)((ints)made & (((int32_t)r->marks[at / WIDE] & bits) != 0));
    }
    if (r->values) return (floats)((ints)made & is_within(load_few(r->values + at, few), r));
    floats held = smaller(whole(r->high), larger(whole(r->low), made));
    if (r->marks) r->marks[at / WIDE] = marked(is_within(held, r));
    return held;
}

/* The same for a whole line. */
#if LINE > WIDE
INLINE __mmask16 is_line_within(line value, const rectifier *r) {
    return _mm512_cmp_ps_mask(value, _mm512_set1_ps(r->low), _CMP_NLE_UQ) &
           _mm512_cmp_ps_mask(value, _mm512_set1_ps(r->high), _CMP_NGE_UQ);
}

INLINE line rectified_line(line made, const rectifier *r, count at) {
    __mmask16 mark;
    if (r->is_back && r->marks) {
        memcpy(&mark, r->marks + at / WIDE, sizeof(mark));
        return _mm512_maskz_mov_ps(mark, made);
    }
    if (r->values) return _mm512_maskz_mov_ps(is_line_within(load_line(r->values + at), r), made);
    line held = _mm512_min_ps(_mm512_set1_ps(r->high), _mm512_max_ps(_mm512_set1_ps(r->low), made));
    if (r->marks) {
        mark = is_line_within(held, r);
        memcpy(r->marks + at / WIDE, &mark, sizeof(mark));
    }
    return held;
}
#else
INLINE line rectified_line(line made, const rectifier *r, count at) {
    return rectified(made, r, at, LINE);
}
#endif

#endif
