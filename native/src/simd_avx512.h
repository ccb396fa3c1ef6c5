// 512-bit vectors: AVX-512 F, BW, DQ, VL. With INT8_VNNI the dot products of VNNI, with INT8_BF16 those of BF16.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))

namespace INT8_VARIANT {

constexpr int W = 16;  // floats in a vector
// 6 x 4 sums, 4 vectors of weights and one of activations: 29 of the 32 registers.
constexpr int TILE_ROWS = 6, TILE_VECTORS = 4;
constexpr int ATTENTION_ROWS = 6;
constexpr bool SIGNED_ACTIVATIONS = false;

using F = __m512;
INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a); }
INLINE F all(float a) { return _mm512_set1_ps(a); }
INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
INLINE float sum_of(F a) { return _mm512_reduce_add_ps(a); }
INLINE float min_of(F a) { return _mm512_reduce_min_ps(a); }
INLINE float max_of(F a) { return _mm512_reduce_max_ps(a); }
INLINE F nearest(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE F times_power_of_2(F a, F n) { return _mm512_scalef_ps(a, n); }
// The first n lanes of a, the rest of `other`; 0 <= n <= W.
INLINE F first(int n, F a, F other) { return _mm512_mask_blend_ps((__mmask16)((1u << n) - 1), other, a); }
INLINE F load_float16(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
INLINE F load_bfloat16(const uint16_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
// Rounds to the nearest integer; what is above 255 becomes 255. Nothing may be below -0.5.
INLINE void store_u8(uint8_t* p, F a) {
    _mm_storeu_si128((__m128i*)p, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(a)));
}

using I = __m512i;
INLINE I zero() { return _mm512_setzero_si512(); }
INLINE F to_float(I a) { return _mm512_cvtepi32_ps(a); }
INLINE I load_weights(const int8_t* p) { return _mm512_loadu_si512(p); }
INLINE int32_t load_4_bytes(const void* p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE I all_4_bytes(const void* p) { return _mm512_set1_epi32(load_4_bytes(p)); }

#if INT8_VNNI
constexpr float LEVELS = 255;
// As assembly: with the intrinsic g++ 12 spills the sums of the tile to memory, at half the speed.
INLINE void dot(I& sums, I activations, I weights) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(activations), "v"(weights));
}
#else
// vpmaddubsw adds pairs of products in 16 bits: with activations of 7 bits 2 * 127 * 127 still fits.
constexpr float LEVELS = 127;
INLINE void dot(I& sums, I activations, I weights) {
    const I pairs = _mm512_maddubs_epi16(activations, weights);
    sums = _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

#if INT8_BF16
// Queries, keys and values as bfloat16, for dot products of pairs (attention_bf16.h).
using Qkv = uint16_t;
INLINE void store_qkv(Qkv* p, F a) { _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(a)); }
INLINE void dot_pairs(F& sums, I a, I b) { asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b)); }
#else
using Qkv = float;
INLINE void store_qkv(Qkv* p, F a) { store(p, a); }
#endif

}  // namespace INT8_VARIANT
