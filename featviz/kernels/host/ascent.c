/* Adam's step, all of its passes over the state in one. */

#include "common.h"

/* Rows that do not move have nothing touched but their memory, as if their gradient were zero. */
KERNEL ascend(float *restrict parameters, const float *restrict gradient, float *restrict mean,
              float *restrict square, const float *restrict sizes, const float *restrict roots,
              const uint8_t *restrict moves, float new_in_mean, float beta2, float new_in_square,
              float epsilon, count rows, count values, count threads) {
    SHARED
    for (count row = 0; row < rows; row++) {
        float size = moves[row] ? sizes[row] : 0, root = roots[row];
        int moves_here = moves[row];
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
