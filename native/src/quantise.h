// From a row of floats to u8: x ~ offset + scale * q, with a scale and an offset of the row's own. So a row's numbers
// never depend on the rows beside it.
#pragma once
#include "simd.h"

namespace INT8_VARIANT {

// Rows of u8 and what they mean.
struct Rows {
    uint8_t* q;     // [rows][width]
    float* scale;   // [rows]
    float* offset;  // [rows]
};

constexpr float TINY = 1e-30f;  // the least range: a row of equal numbers must not divide by zero

// Sets row `r` so that `low` becomes 0 and `high` LEVELS; returns what the numbers are multiplied with.
INLINE float set_scale(const Rows& rows, int64_t r, float low, float high) {
    const float difference = high - low, range = difference > TINY ? difference : TINY;
    rows.scale[r] = range / LEVELS;
    rows.offset[r] = SIGNED_ACTIVATIONS ? low + 128 * rows.scale[r] : low;
    return LEVELS / range;
}

// Numbers below `low` count as `low`.
static void quantise_row(const float* x, int width, float low, float high, const Rows& rows, int64_t r) {
    const F bottom = all(low), factor = all(set_scale(rows, r, low, high));
    uint8_t* q = rows.q + r * width;
    for (int i = 0; i < width; i += W) store_u8(q + i, mul(sub(max(load(x + i), bottom), bottom), factor));
}

static void quantise(const float* x, int n_rows, int width, const Rows& rows) {
    for (int r = 0; r < n_rows; r++, x += width) {
        F low = load(x), high = low;
        for (int i = W; i < width; i += W) {
            const F v = load(x + i);
            low = min(low, v), high = max(high, v);
        }
        quantise_row(x, width, min_of(low), max_of(high), rows, r);
    }
}

}  // namespace INT8_VARIANT
