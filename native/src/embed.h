// From token ids to the first layer's input, and from the last layer's output to the answer.
#pragma once
#include "norm.h"
#include "variant.h"

namespace INT8_VARIANT {

INLINE F load_words(const void* row, int type, int i) {
    if (type == FLOAT16) return load_float16((const uint16_t*)row + i);
    if (type == BFLOAT16) return load_bfloat16((const uint16_t*)row + i);
    return load((const float*)row + i);
}

// x [width] = the word's row, widened, and the position's; the word table has no surplus columns to read.
static void embed_token(const Words& words, int64_t id, const float* position, int hidden, int width, float* x) {
    const int64_t item = words.type == FLOAT32 ? 4 : 2;
    const char* row = (const char*)words.table + id * hidden * item;
    const int whole = hidden / W * W;
    for (int i = 0; i < whole; i += W) store(x + i, add(load_words(row, words.type, i), load(position + i)));
    if (whole == width) return;
    char rest[W * 4] = {};
    memcpy(rest, row + whole * item, (size_t)((hidden - whole) * item));
    for (int i = whole; i < width; i += W) {
        const F word = i == whole ? load_words(rest, words.type, 0) : all(0);
        store(x + i, add(word, load(position + i)));
    }
}

// The embeddings of one text, before their norm. Where the family has a padding token, that takes no position.
static void embed_text(const Model& model, const Words& words, const int32_t* ids, int length, float* x) {
    const Sizes& s = model.sizes();
    const int width = Widths(s).hidden;
    int next = s.first_position;
    for (int i = 0; i < length; i++, x += width) {
        const bool padding = s.padding_id >= 0 && ids[i] == s.padding_id;
        embed_token(words, ids[i], model.position_row(padding ? s.first_position - 1 : next++), s.hidden, width, x);
    }
}

static void copy_row(const float* x, int hidden, float* out) { memcpy(out, x, sizeof(float) * (size_t)hidden); }

// One text's rows [length][width] to out [hidden]. Rows are added in order, so that a text's sum is always the same.
static void pool(const float* x, int length, int hidden, int width, int pooling, float* out) {
    if (pooling == CLS) return copy_row(x, hidden, out);
    if (pooling == LAST_TOKEN) return copy_row(x + (int64_t)(length - 1) * width, hidden, out);
    const float divisor = pooling == MAX ? 1 : pooling == MEAN ? (float)length : __builtin_sqrtf((float)length);
    for (int i = 0; i < width && i < hidden; i += W) {
        F total = load(x + i);
        for (int64_t r = 1; r < length; r++)
            total = pooling == MAX ? max(total, load(x + r * width + i)) : add(total, load(x + r * width + i));
        float lanes[W];
        store(lanes, mul(total, all(1 / divisor)));
        const int n = hidden - i < W ? hidden - i : W;
        memcpy(out + i, lanes, sizeof(float) * (size_t)n);
    }
}

}  // namespace INT8_VARIANT
