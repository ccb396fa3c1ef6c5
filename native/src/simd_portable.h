// One float at a time, for any processor: slow. The other variants are tested against it; serving never chooses it.
#pragma once
#include <cstdint>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))

namespace INT8_VARIANT {

constexpr int W = 1;
constexpr int TILE_ROWS = 2, TILE_VECTORS = 16;
constexpr int ATTENTION_ROWS = 2;
constexpr float LEVELS = 255;
constexpr bool SIGNED_ACTIVATIONS = false;

using F = float;
INLINE F load(const float* p) { return *p; }
INLINE void store(float* p, F a) { *p = a; }
INLINE F all(float a) { return a; }
INLINE F add(F a, F b) { return a + b; }
INLINE F sub(F a, F b) { return a - b; }
INLINE F mul(F a, F b) { return a * b; }
INLINE F fma(F a, F b, F c) { return __builtin_fmaf(a, b, c); }
INLINE F min(F a, F b) { return a < b ? a : b; }
INLINE F max(F a, F b) { return a > b ? a : b; }
INLINE float sum_of(F a) { return a; }
INLINE float min_of(F a) { return a; }
INLINE float max_of(F a) { return a; }
INLINE F nearest(F a) { return __builtin_rintf(a); }
INLINE F times_power_of_2(F a, F n) { return __builtin_ldexpf(a, (int)max(n, -126.0f)); }
INLINE F first(int n, F a, F other) { return n > 0 ? a : other; }
INLINE F from_bits(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
INLINE F load_bfloat16(const uint16_t* p) { return from_bits((uint32_t)*p << 16); }
INLINE F load_float16(const uint16_t* p) {
    const uint32_t sign = (uint32_t)(*p & 0x8000) << 16, exponent = *p >> 10 & 31, fraction = *p & 1023;
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * __builtin_ldexpf((float)fraction, -24);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}
INLINE void store_u8(uint8_t* p, F a) { *p = a < 255 ? a > 0 ? (uint8_t)__builtin_rintf(a) : 0 : 255; }

using I = int32_t;
struct FourBytes {
    uint8_t v[4];
};
INLINE I zero() { return 0; }
INLINE F to_float(I a) { return (float)a; }
INLINE const int8_t* load_weights(const int8_t* p) { return p; }
INLINE FourBytes all_4_bytes(const void* p) {
    FourBytes b;
    memcpy(&b, p, sizeof b);
    return b;
}
INLINE void dot(I& sums, const FourBytes& a, const int8_t* weights) {
    for (int i = 0; i < 4; i++) sums += a.v[i] * weights[i];
}

using Qkv = float;
INLINE void store_qkv(Qkv* p, F a) { store(p, a); }

}  // namespace INT8_VARIANT
