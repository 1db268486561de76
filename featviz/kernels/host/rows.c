/* What is asked of each row of numbers. */

#include "common.h"

/* Whether all values of a row are numbers: neither NaN nor infinite. */
KERNEL finite_rows(const float *restrict values, uint8_t *restrict result, count rows,
                   count number, count threads) {
    const int32_t exponent = 0x7f800000;
    SHARED
    for (count row = 0; row < rows; row++) {
        const int32_t *bits = (const int32_t *)(values + row * number);
        int32_t found = 0;
        for (count at = 0; at < number; at++) found |= (bits[at] & exponent) == exponent;
        result[row] = (uint8_t)!found;
    }
}

/* Whether anything in a row is not zero. */
KERNEL stirred_rows(const float *restrict values, uint8_t *restrict result, count rows,
                    count number, count threads) {
    SHARED
    for (count row = 0; row < rows; row++)
        result[row] = (uint8_t)stirs(values + row * number, number);
}
