// 256-bit vectors: AVX2, FMA, F16C. With INT8_VNNI the dot products of AVX-VNNI.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))

namespace INT8_VARIANT {

constexpr int W = 8;  // floats in a vector
#if INT8_VNNI
constexpr int TILE_ROWS = 6, TILE_VECTORS = 2;  // 12 sums, 2 vectors of weights, 1 of activations: 15 of 16 registers
#else
constexpr int TILE_ROWS = 4, TILE_VECTORS = 2;  // 8 sums, 2 of weights, 1 of activations, 1 between, ones
#endif
constexpr int ATTENTION_ROWS = 4;
constexpr bool SIGNED_ACTIVATIONS = false;

using F = __m256;
INLINE F load(const float* p) { return _mm256_loadu_ps(p); }
INLINE void store(float* p, F a) { _mm256_storeu_ps(p, a); }
INLINE F all(float a) { return _mm256_set1_ps(a); }
INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
INLINE float sum_of(F a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE float min_of(F a) {
    __m128 s = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_min_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_min_ss(s, _mm_movehdup_ps(s)));
}
INLINE float max_of(F a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INLINE F nearest(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// n is an integer; below 2^-126 the result is 2^-126 times a.
INLINE F times_power_of_2(F a, F n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(max(n, all(-126))), _mm256_set1_epi32(127));
    return mul(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
INLINE F first(int n, F a, F other) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_blendv_ps(other, a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes)));
}
INLINE F load_float16(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
INLINE F load_bfloat16(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
INLINE void store_u8(uint8_t* p, F a) {
    const __m256i whole = _mm256_cvtps_epi32(a);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(words, words));
}

using I = __m256i;
INLINE I zero() { return _mm256_setzero_si256(); }
INLINE F to_float(I a) { return _mm256_cvtepi32_ps(a); }
INLINE I load_weights(const int8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
INLINE I all_4_bytes(const void* p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

#if INT8_VNNI
constexpr float LEVELS = 255;
// The tests run this variant on processors with AVX-512 only, where the same instruction has another encoding.
#if INT8_EVEX_FOR_TESTS
#define INT8_ENCODING ""
#else
#define INT8_ENCODING "%{vex%} "
#endif
INLINE void dot(I& sums, I activations, I weights) {
    asm(INT8_ENCODING "vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(activations), "x"(weights));
}
#else
constexpr float LEVELS = 127;  // as in simd_avx512.h
INLINE void dot(I& sums, I activations, I weights) {
    const I pairs = _mm256_maddubs_epi16(activations, weights);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

using Qkv = float;
INLINE void store_qkv(Qkv* p, F a) { store(p, a); }

}  // namespace INT8_VARIANT
