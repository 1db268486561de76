/* What is asked of each row of numbers. */

#include "common.h"

/* Whether anything in a row is not zero. */
KERNEL stirred_rows(const float *restrict values, uint8_t *restrict result, count rows,
                    count number, count threads) {
    SHARED
    for (count row = 0; row < rows; row++)
        result[row] = (uint8_t)stirs(values + row * number, number);
}
