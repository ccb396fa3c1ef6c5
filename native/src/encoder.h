// The whole encoder: embeddings, layers, pooling. Texts lie end to end, without padding; every linear layer runs once over
// the tokens of many texts, attention text by text.
#pragma once
#include "attention_bf16.h"
#include "embed.h"
#include "gemm.h"

namespace INT8_VARIANT {

// Texts are taken in pieces of about this many tokens, so that memory stays bounded; one longer text is a piece.
constexpr int64_t PIECE_TOKENS = 512;
// Within a piece, rows pass the layer in groups whose widest activations stay in the second-level cache (1 MB and more on
// the processors that this is for) beside a panel of weights.
constexpr int64_t GROUP_BYTES = 400 << 10;

INLINE int group_rows(const Widths& w) {
    const int64_t rows = GROUP_BYTES / (4 * w.ffn) / 6 * 6;
    return (int)(rows < 12 ? 12 : rows > 96 ? 96 : rows);
}

struct Workspace {
    float *x, *context, *wide;  // [tokens][hidden], [tokens][attention], [group][ffn]
    Qkv* qkv;                   // [tokens][3 * attention]
    Rows rows, wide_rows;       // of the layer's input, and of the widest activations
    F* row_max;                 // [group]
    void* attention;
};

// Cuts scratch memory into pieces; with null it only counts.
struct Cutter {
    char* base;
    int64_t used;
    void* take(int64_t bytes) {
        void* at = base ? base + used : nullptr;
        used += round_up(bytes, ALIGNMENT);
        return at;
    }
    Rows rows(int64_t n, int64_t width) {
        uint8_t* q = (uint8_t*)take(n * width);
        float* scale = (float*)take(4 * n);
        return {q, scale, (float*)take(4 * n)};
    }
};

static Workspace cut(const Sizes& sizes, int64_t tokens, int64_t longest, Cutter& cutter) {
    const Widths w(sizes);
    const int64_t group = group_rows(w), widest = w.hidden > w.attention ? w.hidden : w.attention;
    Workspace s;
    s.x = (float*)cutter.take(4 * tokens * w.hidden);
    s.context = (float*)cutter.take(4 * tokens * w.attention);
    s.wide = (float*)cutter.take(4 * group * w.ffn);
    s.qkv = (Qkv*)cutter.take((int64_t)sizeof(Qkv) * tokens * 3 * w.attention);
    s.rows = cutter.rows(tokens, widest);
    s.wide_rows = cutter.rows(group, w.ffn);
    s.row_max = (F*)cutter.take((int64_t)sizeof(F) * group);
    s.attention = cutter.take(attention_scratch_bytes(longest, w.head));
    return s;
}

INLINE int64_t piece_tokens(int64_t tokens, int64_t longest) {
    const int64_t limit = longest > PIECE_TOKENS ? longest : PIECE_TOKENS;
    return tokens < limit ? tokens : limit;
}

static int64_t scratch_bytes(const Sizes& sizes, int64_t tokens, int64_t longest) {
    Cutter counter = {nullptr, 0};
    cut(sizes, piece_tokens(tokens, longest), longest, counter);
    return counter.used + ALIGNMENT;  // the block needn't be aligned
}

INLINE Rows rows_from(const Rows& rows, int64_t first, int width) {
    return {rows.q + first * width, rows.scale + first, rows.offset + first};
}

static void normalise(float* x, int n_rows, const Sizes& sizes, const Norm& norm, const Rows& to) {
    const int width = Widths(sizes).hidden;
    for (int r = 0; r < n_rows; r++, x += width) {
        float least, largest;
        normalise_row(x, sizes.hidden, width, norm, sizes.norm_eps, least, largest);
        quantise_row(x, width, least, largest, to, r);
    }
}

// x -> activation(x W + b), quantised: the activations' least value is known, the largest comes from the epilogue.
static void up(const Linear& linear, const Rows& x, int n_rows, int activation, const int8_t* next, const Workspace& s) {
    const Product product = {x, linear, s.wide, nullptr, s.row_max, next};
    if (activation == GELU) multiply<ACTIVATE_GELU>(product, n_rows);
    if (activation == GELU_TANH) multiply<ACTIVATE_GELU_TANH>(product, n_rows);
    if (activation == RELU) multiply<ACTIVATE_RELU>(product, n_rows);
    const float low = activation == RELU ? 0 : GELU_MINIMUM;
    for (int r = 0; r < n_rows; r++)
        quantise_row(s.wide + (int64_t)r * linear.n, linear.n, low, max_of(s.row_max[r]), s.wide_rows, r);
}

// All of a layer behind attention, for n_rows rows from `first` of context and x; x becomes the layer's output.
static void after_attention(const Sizes& sizes, const Layer& layer, const int8_t* next, int64_t first, int n_rows,
                            const Workspace& s) {
    const Widths w(sizes);
    float* x = s.x + first * w.hidden;
    // `gathered` ends where the next group's begins, and w.hidden <= w.attention: no group overwrites another's rows.
    const Rows gathered = rows_from(s.rows, first, w.attention), rows = rows_from(s.rows, first, w.hidden);
    quantise(s.context + first * w.attention, n_rows, w.attention, gathered);
    multiply<ADD_RESIDUAL>({gathered, layer.projection, x, nullptr, nullptr, layer.up.weights}, n_rows);
    normalise(x, n_rows, sizes, layer.attention_norm, rows);
    up(layer.up, rows, n_rows, sizes.activation, layer.down.weights, s);
    multiply<ADD_RESIDUAL>({s.wide_rows, layer.down, x, nullptr, nullptr, next}, n_rows);
    normalise(x, n_rows, sizes, layer.ffn_norm, rows);
}

// `next`: the next layer's first weights.
static void run_layer(const Sizes& sizes, const Layer& layer, const int8_t* next, const Texts& texts, int n_tokens,
                      bool one_row, int pooling, const Workspace& s) {
    const Widths w(sizes);
    const int group = group_rows(w);
    for (int64_t first = 0; first < n_tokens; first += group) {
        const int rows = (int)(n_tokens - first < group ? n_tokens - first : group);
        Qkv* to = s.qkv + first * 3 * w.attention;
        multiply<TO_QKV>({rows_from(s.rows, first, w.hidden), layer.qkv, nullptr, to, nullptr, layer.projection.weights}, rows);
    }
    int64_t at = 0;
    for (int t = 0; t < texts.count; at += texts.lengths[t++])
        attend({s.qkv + at * 3 * w.attention, texts.lengths[t], sizes.heads, w.head, w.attention,
                s.context + at * w.attention, s.attention});
    int n_rows = n_tokens;
    if (one_row) {  // only these rows are asked for: move them to the front, one per text
        at = 0;
        for (int64_t t = 0; t < texts.count; at += texts.lengths[t++]) {
            const int64_t row = pooling == CLS ? at : at + texts.lengths[t] - 1;
            memmove(s.x + t * w.hidden, s.x + row * w.hidden, sizeof(float) * (size_t)w.hidden);
            memmove(s.context + t * w.attention, s.context + row * w.attention, sizeof(float) * (size_t)w.attention);
        }
        n_rows = texts.count;
    }
    for (int64_t first = 0; first < n_rows; first += group)
        after_attention(sizes, layer, next, first, (int)(n_rows - first < group ? n_rows - first : group), s);
}

static void answer(const Sizes& sizes, const Texts& texts, int64_t n_tokens, int pooling, const float* x, float* out) {
    const int hidden = sizes.hidden, width = Widths(sizes).hidden;
    const bool row_by_row = pooling == HIDDEN_STATES || pooling == CLS || pooling == LAST_TOKEN;
    if (row_by_row) {
        const int64_t rows = pooling == HIDDEN_STATES ? n_tokens : texts.count;
        for (int64_t r = 0; r < rows; r++) copy_row(x + r * width, hidden, out + r * hidden);
        return;
    }
    for (int64_t t = 0; t < texts.count; x += (int64_t)texts.lengths[t++] * width)
        pool(x, texts.lengths[t], hidden, width, pooling, out + t * hidden);
}

static void run_piece(const Model& model, const Words& words, const Texts& texts, int n_tokens, int pooling, float* out,
                      const Workspace& s) {
    const Sizes& sizes = model.sizes();
    const int width = Widths(sizes).hidden;
    int64_t at = 0;
    for (int t = 0; t < texts.count; at += texts.lengths[t++])
        embed_text(model, words, texts.ids + at, texts.lengths[t], s.x + at * width);
    normalise(s.x, n_tokens, sizes, model.embedding_norm(), s.rows);
    for (int number = 0; number < sizes.layers; number++) {
        const bool one_row = number == sizes.layers - 1 && (pooling == CLS || pooling == LAST_TOKEN);
        const int following = number + 1 < sizes.layers ? number + 1 : 0;
        const int8_t* next = model.linear(following, 0).weights;
        run_layer(sizes, model.layer(number), next, texts, n_tokens, one_row, pooling, s);
    }
    answer(sizes, texts, n_tokens, pooling, s.x, out);
}

static void forward(const Model& model, const Words& words, const Texts& texts, int pooling, float* out, void* scratch) {
    int64_t tokens = 0, longest = 0;
    for (int t = 0; t < texts.count; t++) {
        tokens += texts.lengths[t];
        if (texts.lengths[t] > longest) longest = texts.lengths[t];
    }
    char* aligned = (char*)round_up((int64_t)(intptr_t)scratch, ALIGNMENT);
    Cutter cutter = {aligned, 0};
    const int64_t limit = piece_tokens(tokens, longest);
    const Workspace s = cut(model.sizes(), limit, longest, cutter);
    Texts piece = {texts.ids, texts.lengths, 0};
    for (int t = 0; t < texts.count;) {
        int64_t n_tokens = 0;
        piece.count = 0;
        while (t < texts.count && n_tokens + texts.lengths[t] <= limit) n_tokens += texts.lengths[t++], piece.count++;
        run_piece(model, words, piece, (int)n_tokens, pooling, out, s);
        piece.ids += n_tokens, piece.lengths += piece.count;
        out += (pooling == HIDDEN_STATES ? n_tokens : piece.count) * model.sizes().hidden;
    }
}

}  // namespace INT8_VARIANT
