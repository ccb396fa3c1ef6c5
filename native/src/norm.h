// Layer norm. Surplus columns have weight and bias 0, so they stay 0; they don't count in mean and variance.
#pragma once
#include "simd.h"

namespace INT8_VARIANT {

// Normalises a row of `width` floats, of which `hidden` are real, in place; tells its least and largest.
static void normalise_row(float* x, int hidden, int width, const Norm& norm, float eps, float& least, float& largest) {
    F sum = all(0);
    for (int i = 0; i < width; i += W) sum = add(sum, load(x + i));  // the surplus is 0
    const F mean = all(sum_of(sum) / (float)hidden);
    F squares = all(0);
    const int whole = hidden / W * W;
    for (int i = 0; i < whole; i += W) {
        const F v = sub(load(x + i), mean);
        squares = fma(v, v, squares);
    }
    if (whole < hidden) {
        const F v = first(hidden - whole, sub(load(x + whole), mean), all(0));
        squares = fma(v, v, squares);
    }
    const F factor = all(1 / __builtin_sqrtf(sum_of(squares) / (float)hidden + eps));
    F low = all(__builtin_inff()), high = all(-__builtin_inff());
    for (int i = 0; i < width; i += W) {
        const F v = fma(mul(sub(load(x + i), mean), factor), load(norm.weight + i), load(norm.bias + i));
        low = min(low, v), high = max(high, v);
        store(x + i, v);
    }
    least = min_of(low), largest = max_of(high);
}

}  // namespace INT8_VARIANT
