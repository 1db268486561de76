/* What all kernels need: names that are seen from outside, numbers side by side, shared work. */

#ifndef FEATVIZ_COMMON_H
#define FEATVIZ_COMMON_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define KERNEL __attribute__((visibility("default"))) void
#define INLINE static inline __attribute__((always_inline))
#define SHARED _Pragma("omp parallel for num_threads((int)threads) schedule(static)")
#define SHARED_2 _Pragma("omp parallel for collapse(2) num_threads((int)threads) schedule(static)")

typedef int64_t count;

/* Vectors of the compiler's own kind (GCC, Clang): on every processor, one way to compute. */
#define WIDE 8
typedef float floats __attribute__((vector_size(4 * WIDE)));
typedef int32_t ints __attribute__((vector_size(4 * WIDE)));
typedef float unaligned_floats __attribute__((vector_size(4 * WIDE), aligned(4)));

INLINE count least(count a, count b) { return a < b ? a : b; }
INLINE floats whole(float value) { return value - (floats){0}; }
INLINE floats chosen(ints is_first, floats first, floats second) {
    return (floats)((is_first & (ints)first) | (~is_first & (ints)second));
}
INLINE floats smaller(floats a, floats b) { return chosen(a < b, a, b); }
INLINE floats larger(floats a, floats b) { return chosen(a > b, a, b); }
INLINE floats floored(floats value) {
    floats cut = __builtin_convertvector(__builtin_convertvector(value, ints), floats);
    return cut + __builtin_convertvector(cut > value, floats); /* true is -1 */
}
INLINE floats load(const float *from) { return *(const unaligned_floats *)from; }
INLINE void store(float *to, floats value) { *(unaligned_floats *)to = value; }

#endif
