// The activations of the feed-forward layer, and the exponential of attention.
#pragma once
#include "simd.h"

namespace INT8_VARIANT {

// GELU(x) = x * (1/2 + x * P(x^2)) for |x| <= 4; beyond, the factor stays what it is at 4, and x at -4. The coefficients
// are least-maximum fits, made by native/fit_polynomials.py: at most 4.1e-5 (erf) and 5.6e-5 (tanh) off, a
// hundredth of a step of the u8 that it becomes.
constexpr int GELU_DEGREE = 7;
constexpr float GELU_CLAMP = 4;
constexpr float GELU_MINIMUM = -0.1701f;  // of both, rounded down
static const float GELU_ERF[GELU_DEGREE + 1] = {3.986733857e-01f, -6.588782718e-02f, 9.505388385e-03f,
                                                -1.006487504e-03f, 7.485460020e-05f, -3.657095618e-06f,
                                                1.041944483e-07f, -1.301266983e-09f};
static const float GELU_BY_TANH[GELU_DEGREE + 1] = {3.986169718e-01f, -6.609839045e-02f, 9.654319440e-03f,
                                                    -1.043320797e-03f, 7.942534768e-05f, -3.966031134e-06f,
                                                    1.150909755e-07f, -1.458654083e-09f};

INLINE F gelu(F x, const float* coefficients) {
    const F low = max(x, all(-GELU_CLAMP)), c = min(low, all(GELU_CLAMP)), square = mul(c, c);
    F p = all(coefficients[GELU_DEGREE]);
#pragma GCC unroll 8
    for (int i = GELU_DEGREE - 1; i >= 0; i--) p = fma(p, square, all(coefficients[i]));
    return mul(low, fma(p, c, all(0.5f)));
}

template <int ACTIVATION>
INLINE F activate(F x) {
    if (ACTIVATION == RELU) return max(x, all(0));
    return gelu(x, ACTIVATION == GELU ? GELU_ERF : GELU_BY_TANH);
}

// 2^x for x <= 0, to 1e-7; by the same script.
INLINE F power_of_2(F x) {
    const F n = nearest(x), f = sub(x, n);
    F p = all(1.327647220e-03f);
    p = fma(p, f, all(9.675541585e-03f));
    p = fma(p, f, all(5.550713275e-02f));
    p = fma(p, f, all(2.402211972e-01f));
    p = fma(p, f, all(6.931469671e-01f));
    p = fma(p, f, all(1.000000072f));
    return times_power_of_2(p, n);
}

}  // namespace INT8_VARIANT
