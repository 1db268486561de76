/* Adam's step, all of its passes over the state in one. */

#include "common.h"

INLINE int are_finite(const float *values, count number) {
    const int32_t exponent = 0x7f800000, *bits = (const int32_t *)values;
    int32_t found = 0;
    for (count at = 0; at < number; at++) found |= (bits[at] & exponent) == exponent;
    return !found;
}

/* Rows that do not move have nothing touched but their memory, as if their gradient were zero.
   `sizes`, `roots`: of each of the steps, of which the rows are at `numbers`. `is_finite`: whether
   a row's gradient is numbers, neither NaN nor infinite; else it stays. */
KERNEL ascend(float *restrict parameters, const float *restrict gradient, float *restrict mean,
              float *restrict square, const float *restrict sizes, const float *restrict roots,
              const int64_t *restrict numbers, const uint8_t *restrict moves,
              uint8_t *restrict is_finite, count steps, float new_in_mean, float beta2,
              float new_in_square, float epsilon, count rows, count values, count threads) {
    SHARED
    for (count row = 0; row < rows; row++) {
        is_finite[row] = (uint8_t)are_finite(gradient + row * values, values);
        int moves_here = moves[row] && is_finite[row];
        count number = least(numbers[row], steps - 1);
        float size = moves_here ? sizes[number] : 0, root = roots[number];
        for (count at = row * values; at < (row + 1) * values; at++) {
            float slope = moves_here ? gradient[at] : 0;
            float first = mean[at] + new_in_mean * (slope - mean[at]);
            float second = square[at] * beta2 + new_in_square * slope * slope;
            mean[at] = first;
            square[at] = second;
            parameters[at] += first * size / (sqrtf(second) / root + epsilon);
        }
    }
}
