// Attention of one text in float32. Queries hold the scale of the scores already, log2(e) included, so that the softmax
// is one of powers of two.
#pragma once
#include "activation.h"
#include "simd.h"

namespace INT8_VARIANT {

struct Attention {
    const Qkv* qkv;  // [tokens][3 * width]: queries, keys, values
    int tokens, heads, head, width;  // `head` floats each; `width` of all heads, rounded up
    float* out;      // [tokens][width]
    void* scratch;   // attention_scratch_bytes
};

INLINE int whole_vectors(int tokens) { return (int)round_up(tokens, W); }

#if !INT8_BF16

static int64_t attention_scratch_bytes(int64_t tokens, int head) {
    return round_up(4 * (head + ATTENTION_ROWS) * round_up(tokens, W), ALIGNMENT);
}

// ROWS queries times VECTORS * W keys. keys: [head][stride].
template <int ROWS, int VECTORS>
INLINE void score(const Attention& a, const float* queries, const float* keys, int stride, float* scores) {
    F sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = all(0);
    for (int d = 0; d < a.head; d++)
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const F q = all(queries[(int64_t)r * 3 * a.width + d]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sums[r][v] = fma(q, load(keys + (int64_t)d * stride + v * W), sums[r][v]);
        }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) store(scores + (int64_t)r * stride + v * W, sums[r][v]);
}

// In place: powers of two of what each is below the largest; 0 beyond `tokens`. Returns their sum.
static float exponentials(float* scores, int tokens, int stride) {
    const int real = tokens - (stride - W);  // lanes of the last vector
    F largest = first(real, load(scores + stride - W), all(-__builtin_inff()));
    for (int j = 0; j < stride - W; j += W) largest = max(largest, load(scores + j));
    largest = all(max_of(largest));
    F sum = all(0);
    for (int j = 0; j < stride; j += W) {
        F e = power_of_2(sub(load(scores + j), largest));
        if (j == stride - W) e = first(real, e, all(0));
        sum = add(sum, e);
        store(scores + j, e);
    }
    return sum_of(sum);
}

template <int ROWS>
INLINE void weigh(const Attention& a, int h, int row, const float* scores, int stride, const float* sums) {
    const float* values = a.qkv + 2 * a.width + h * a.head;
    for (int d = 0; d < a.head; d += 2 * W) {  // head is a multiple of 32
        F out[ROWS][2];
        for (int r = 0; r < ROWS; r++) out[r][0] = out[r][1] = all(0);
        for (int j = 0; j < a.tokens; j++) {
            const float* value = values + (int64_t)j * 3 * a.width + d;
            const F v0 = load(value), v1 = load(value + W);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                const F s = all(scores[(int64_t)r * stride + j]);
                out[r][0] = fma(s, v0, out[r][0]), out[r][1] = fma(s, v1, out[r][1]);
            }
        }
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < 2; v++)
                store(a.out + (int64_t)(row + r) * a.width + h * a.head + d + v * W, mul(out[r][v], all(1 / sums[r])));
    }
}

template <int ROWS>
static void attend_rows(const Attention& a, int h, int row, const float* keys, float* scores) {
    const int stride = whole_vectors(a.tokens);
    const float* queries = a.qkv + (int64_t)row * 3 * a.width + h * a.head;
    int j = 0;
    for (; j + 2 * W <= stride; j += 2 * W) score<ROWS, 2>(a, queries, keys + j, stride, scores + j);
    if (j < stride) score<ROWS, 1>(a, queries, keys + j, stride, scores + j);
    float sums[ROWS];
    for (int r = 0; r < ROWS; r++) sums[r] = exponentials(scores + (int64_t)r * stride, a.tokens, stride);
    weigh<ROWS>(a, h, row, scores, stride, sums);
}

static void attend(const Attention& a) {
    const int stride = whole_vectors(a.tokens);
    float *keys = (float*)a.scratch, *scores = keys + (int64_t)a.head * stride;
    for (int h = 0; h < a.heads; h++) {
        const float* rows = a.qkv + a.width + h * a.head;
        for (int j = 0; j < stride; j++)
            for (int d = 0; d < a.head; d++)
                keys[(int64_t)d * stride + j] = j < a.tokens ? rows[(int64_t)j * 3 * a.width + d] : 0;
        int row = 0;
        for (; row + ATTENTION_ROWS <= a.tokens; row += ATTENTION_ROWS)
            attend_rows<ATTENTION_ROWS>(a, h, row, keys, scores);
        for (; row < a.tokens; row++) attend_rows<1>(a, h, row, keys, scores);
    }
    const int used = a.heads * a.head;
    for (int64_t row = 0; row < a.tokens; row++)
        for (int i = used; i < a.width; i++) a.out[row * a.width + i] = 0;
}

#endif

}  // namespace INT8_VARIANT
