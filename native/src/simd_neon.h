// 128-bit vectors of arm64. With INT8_I8MM the dot product of u8 and s8, else that of s8 and s8 (dotprod).
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))

namespace INT8_VARIANT {

constexpr int W = 4;  // floats in a vector
constexpr int TILE_ROWS = 6, TILE_VECTORS = 4;  // 24 sums, 4 vectors of weights, 1 of activations
constexpr int ATTENTION_ROWS = 4;
constexpr float LEVELS = 255;

using F = float32x4_t;
INLINE F load(const float* p) { return vld1q_f32(p); }
INLINE void store(float* p, F a) { vst1q_f32(p, a); }
INLINE F all(float a) { return vdupq_n_f32(a); }
INLINE F add(F a, F b) { return vaddq_f32(a, b); }
INLINE F sub(F a, F b) { return vsubq_f32(a, b); }
INLINE F mul(F a, F b) { return vmulq_f32(a, b); }
INLINE F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
INLINE F min(F a, F b) { return vminq_f32(a, b); }
INLINE F max(F a, F b) { return vmaxq_f32(a, b); }
INLINE float sum_of(F a) { return vaddvq_f32(a); }
INLINE float min_of(F a) { return vminvq_f32(a); }
INLINE float max_of(F a) { return vmaxvq_f32(a); }
INLINE F nearest(F a) { return vrndnq_f32(a); }
// n is an integer; below 2^-126 the result is 2^-126 times a.
INLINE F times_power_of_2(F a, F n) {
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(max(n, all(-126))), vdupq_n_s32(127));
    return mul(a, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}
INLINE F first(int n, F a, F other) {
    const int32_t lanes[4] = {0, 1, 2, 3};
    return vbslq_f32(vcgtq_s32(vdupq_n_s32(n), vld1q_s32(lanes)), a, other);
}
INLINE F load_float16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
INLINE F load_bfloat16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }

using I = int32x4_t;
INLINE I zero() { return vdupq_n_s32(0); }
INLINE F to_float(I a) { return vcvtq_f32_s32(a); }
INLINE int8x16_t load_weights(const int8_t* p) { return vld1q_s8(p); }
INLINE uint8x16_t all_4_bytes(const void* p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return vreinterpretq_u8_u32(vdupq_n_u32(v));
}
INLINE uint8x8_t to_u8(F a) {
    const uint16x4_t words = vqmovun_s32(vcvtnq_s32_f32(a));
    return vqmovn_u16(vcombine_u16(words, words));
}
INLINE void store_4_bytes(uint8_t* p, uint8x8_t a) {
    const uint32_t v = vget_lane_u32(vreinterpret_u32_u8(a), 0);
    memcpy(p, &v, sizeof v);
}

#if INT8_I8MM
constexpr bool SIGNED_ACTIVATIONS = false;
INLINE void store_u8(uint8_t* p, F a) { store_4_bytes(p, to_u8(a)); }
INLINE void dot(I& sums, uint8x16_t activations, int8x16_t weights) { sums = vusdotq_s32(sums, activations, weights); }
#else
// Activations lie in memory as s8, 128 less than they are; quantise.h adds 128 to what stands for zero.
constexpr bool SIGNED_ACTIVATIONS = true;
INLINE void store_u8(uint8_t* p, F a) { store_4_bytes(p, veor_u8(to_u8(a), vdup_n_u8(0x80))); }
INLINE void dot(I& sums, uint8x16_t activations, int8x16_t weights) {
    sums = vdotq_s32(sums, vreinterpretq_s8_u8(activations), weights);
}
#endif

using Qkv = float;
INLINE void store_qkv(Qkv* p, F a) { store(p, a); }

}  // namespace INT8_VARIANT
