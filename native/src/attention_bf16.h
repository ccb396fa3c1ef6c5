// Attention of one text with bfloat16 dot products (AVX-512 BF16): pairs of factors, sums in float32.
#pragma once
#include "attention_float32.h"

#if INT8_BF16
namespace INT8_VARIANT {

// Per head: keys [head / 2][stride] and values [stride / 2][head], each element a pair; then scores and their
// exponentials of ATTENTION_ROWS rows. `stride`: the tokens, rounded up to whole vectors.
static int64_t attention_scratch_bytes(int64_t tokens, int head) {
    return round_up((4 * head + 6 * ATTENTION_ROWS) * round_up(tokens, W), ALIGNMENT);
}

// rows[i] holds 16 elements of row i; afterwards element i of all rows.
INLINE void transpose(I* rows) {
    I t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        rows[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        rows[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        rows[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        rows[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    // rows[4 * g + c] now holds column 4 * lane + c of rows 4 * g to 4 * g + 3, for its four 128-bit lanes.
    for (int c = 0; c < 4; c++) {
        const I even_low = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0x88);
        const I odd_low = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0xdd);
        const I even_high = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0x88);
        const I odd_high = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0xdd);
        t[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        t[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        t[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        t[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
    for (int i = 0; i < 16; i++) rows[i] = t[i];
}

static void pair_keys(const Attention& a, int h, int stride, uint32_t* keys) {
    const Qkv* rows = a.qkv + a.width + h * a.head;
    for (int j = 0; j < stride; j += 16)
        for (int d = 0; d < a.head; d += 32) {
            I block[16];
            for (int i = 0; i < 16; i++)
                block[i] = j + i < a.tokens ? _mm512_loadu_si512(rows + (int64_t)(j + i) * 3 * a.width + d) : zero();
            transpose(block);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(keys + (int64_t)(d / 2 + i) * stride + j, block[i]);
        }
}

static void pair_values(const Attention& a, int h, int stride, uint32_t* values) {
    const Qkv* rows = a.qkv + 2 * a.width + h * a.head;
    const auto widened = [&](int j, int d) {
        if (j >= a.tokens) return zero();
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(rows + (int64_t)j * 3 * a.width + d)));
    };
    for (int j = 0; j < stride; j += 2)
        for (int d = 0; d < a.head; d += 16) {
            const I pair = _mm512_or_si512(widened(j, d), _mm512_slli_epi32(widened(j + 1, d), 16));
            _mm512_storeu_si512(values + (int64_t)(j / 2) * a.head + d, pair);
        }
}

// ROWS queries times VECTORS * 16 keys.
template <int ROWS, int VECTORS>
static void score(const Attention& a, const Qkv* queries, const uint32_t* keys, int stride, float* scores) {
    F sums[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sums[r][v] = all(0);
    for (int d = 0; d < a.head; d += 2, keys += stride) {
        I k[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) k[v] = _mm512_loadu_si512(keys + v * W);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const I q = all_4_bytes(queries + (int64_t)r * 3 * a.width + d);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) dot_pairs(sums[r][v], q, k[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) store(scores + (int64_t)r * stride + v * W, sums[r][v]);
}

// Powers of two of what each score is below the largest, rounded; 0 beyond `tokens`. Returns their sum.
static float exponentials(const float* scores, int tokens, int stride, Qkv* powers) {
    const int real = tokens - (stride - W);  // lanes of the last vector
    F largest = first(real, load(scores + stride - W), all(-__builtin_inff()));
    for (int j = 0; j < stride - W; j += W) largest = max(largest, load(scores + j));
    largest = all(max_of(largest));
    F sum = all(0);
    for (int j = 0; j < stride - W; j += W) {
        const F e = power_of_2(sub(load(scores + j), largest));
        sum = add(sum, e);
        store_qkv(powers + j, e);
    }
    const F e = first(real, power_of_2(sub(load(scores + stride - W), largest)), all(0));
    store_qkv(powers + stride - W, e);
    return sum_of(add(sum, e));
}

template <int ROWS, int VECTORS>
static void weigh(const Attention& a, const uint32_t* values, const Qkv* powers, int stride, const float* sums,
                  float* out) {
    F o[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) o[r][v] = all(0);
    for (int j = 0; j < a.tokens; j += 2, values += a.head) {
        I v0[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) v0[v] = _mm512_loadu_si512(values + v * W);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const I p = all_4_bytes(powers + (int64_t)r * stride + j);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) dot_pairs(o[r][v], p, v0[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) store(out + (int64_t)r * a.width + v * W, mul(o[r][v], all(1 / sums[r])));
}

struct Head {
    const uint32_t *keys, *values;
    float* scores;
    Qkv* powers;
    int stride;
};

template <int ROWS>
static void attend_rows(const Attention& a, int h, int row, const Head& at) {
    const Qkv* queries = a.qkv + (int64_t)row * 3 * a.width + h * a.head;
    int j = 0;
    for (; j + 64 <= at.stride; j += 64) score<ROWS, 4>(a, queries, at.keys + j, at.stride, at.scores + j);
    const int left = at.stride - j;
    if (left == 48) score<ROWS, 3>(a, queries, at.keys + j, at.stride, at.scores + j);
    if (left == 32) score<ROWS, 2>(a, queries, at.keys + j, at.stride, at.scores + j);
    if (left == 16) score<ROWS, 1>(a, queries, at.keys + j, at.stride, at.scores + j);
    float sums[ROWS];
    for (int r = 0; r < ROWS; r++) {
        const int64_t offset = (int64_t)r * at.stride;
        sums[r] = exponentials(at.scores + offset, a.tokens, at.stride, at.powers + offset);
    }
    float* out = a.out + (int64_t)row * a.width + h * a.head;
    int d = 0;
    for (; d + 64 <= a.head; d += 64) weigh<ROWS, 4>(a, at.values + d, at.powers, at.stride, sums, out + d);
    if (d < a.head) weigh<ROWS, 2>(a, at.values + d, at.powers, at.stride, sums, out + d);  // head: a multiple of 32
}

static void attend(const Attention& a) {
    const int stride = whole_vectors(a.tokens);
    uint32_t* keys = (uint32_t*)a.scratch;
    uint32_t* values = keys + (int64_t)a.head / 2 * stride;
    float* scores = (float*)(values + (int64_t)stride / 2 * a.head);
    Qkv* powers = (Qkv*)(scores + (int64_t)ATTENTION_ROWS * stride);
    const int n_blocks = (a.tokens + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    const int least = a.tokens / n_blocks, more = a.tokens % n_blocks;
    const Head at = {keys, values, scores, powers, stride};
    for (int h = 0; h < a.heads; h++) {
        pair_keys(a, h, stride, keys);
        pair_values(a, h, stride, values);
        for (int block = 0, row = 0; block < n_blocks; block++) {
            const int rows = least + (block < more);
            switch (rows) {
                case 1: attend_rows<1>(a, h, row, at); break;
                case 2: attend_rows<2>(a, h, row, at); break;
                case 3: attend_rows<3>(a, h, row, at); break;
                case 4: attend_rows<4>(a, h, row, at); break;
                case 5: attend_rows<5>(a, h, row, at); break;
                default: attend_rows<6>(a, h, row, at);
            }
            row += rows;
        }
    }
    const int used = a.heads * a.head;
    for (int64_t row = 0; row < a.tokens; row++)
        for (int i = used; i < a.width; i++) a.out[row * a.width + i] = 0;
}

}  // namespace INT8_VARIANT
#endif
