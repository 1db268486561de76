/* Adam's step and its kin's, all of their passes over the state in one. */

#include <float.h>

#include "common.h"

/* Numbers, neither NaN nor infinite nor as large as the limit. */
INLINE int are_finite(const float *values, count number, float limit) {
    int32_t found = 1;
    for (count at = 0; at < number; at++) found &= fabsf(values[at]) < limit;
    return found;
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
        is_finite[row] = (uint8_t)are_finite(gradient + row * values, values, INFINITY);
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

#define LANES 16 /* of sums: as many on every processor, so that they round alike */

/* Adds the squares of a row to those of its columns; returns their sum. */
INLINE float squared(float *restrict by_column, const float *restrict values, count columns) {
    float sums[LANES] = {0}, total = 0;
    for (count from = 0; from < columns; from += LANES) {
        int lanes = (int)least(LANES, columns - from);
        for (int lane = 0; lane < lanes; lane++) {
            float square = values[from + lane] * values[from + lane];
            sums[lane] += square;
            by_column[from + lane] += square;
        }
    }
    for (int lane = 0; lane < LANES; lane++) total += sums[lane];
    return total;
}

/* To the power 3/8. */
INLINE float lessened(float moment) {
    float fourth = sqrtf(sqrtf(moment));
    return fourth * sqrtf(fourth);
}

/* The same with second moments by row and by column: see FactoredAdam in engine/recipe.py. */
KERNEL ascend_factored(float *restrict parameters, const float *restrict gradient,
                       float *restrict mean, float *restrict by_row, float *restrict by_column,
                       const float *restrict sizes, const float *restrict roots,
                       const int64_t *restrict numbers, const uint8_t *restrict moves,
                       uint8_t *restrict is_finite, count steps, float new_in_mean,
                       float new_in_square, float epsilon, float limit, count pictures,
                       count channels, count rows, count columns, count threads) {
    SHARED
    for (count picture = 0; picture < pictures; picture++) {
        count from = picture * channels, values = channels * rows * columns;
        const float *slopes = gradient + picture * values;
        is_finite[picture] = (uint8_t)are_finite(slopes, values, limit);
        int moves_here = moves[picture] && is_finite[picture];
        count number = least(numbers[picture], steps - 1);
        float size = moves_here ? sizes[number] : 0, root = roots[number];
        float means[channels], across[columns], whole = 0;
        for (count channel = 0; channel < channels; channel++) {
            float *high = by_row + (from + channel) * rows;
            float *wide = by_column + (from + channel) * columns, total = 0;
            memset(across, 0, sizeof across);
            for (count row = 0; row < rows; row++) {
                float sum = 0;
                if (moves_here)
                    sum = squared(across, slopes + (channel * rows + row) * columns, columns);
                high[row] += new_in_square * (sum / (float)columns - high[row]);
                total += high[row];
            }
            for (count column = 0; column < columns; column++)
                wide[column] += new_in_square * (across[column] / (float)rows - wide[column]);
            means[channel] = total / (float)rows;
            whole += means[channel] / (float)channels;
        }
        float level = sqrtf(sqrtf(sqrtf(whole))) / root;
        for (count channel = 0; channel < channels; channel++) {
            const float *high = by_row + (from + channel) * rows;
            const float *wide = by_column + (from + channel) * columns;
            for (count column = 0; column < columns; column++)
                across[column] = level * lessened(wide[column] / (means[channel] + FLT_MIN));
            for (count row = 0; row < rows; row++) {
                float scale = lessened(high[row]);
                count at = (picture * channels + channel) * rows * columns + row * columns;
                for (count column = 0; column < columns; column++, at++) {
                    float slope = moves_here ? gradient[at] : 0;
                    float first = mean[at] + new_in_mean * (slope - mean[at]);
                    mean[at] = first;
                    parameters[at] += first * size / (scale * across[column] + epsilon);
                }
            }
        }
    }
}
