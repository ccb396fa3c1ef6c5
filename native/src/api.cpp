#include "api.h"

#include <cstring>

#include "pack.h"
#include "variant.h"

namespace {

// Tokens of a call: more would not fit into the 32 bits in which rows are counted.
constexpr int64_t MAX_TOKENS = 1 << 24;

// The model, if it is whole and made for a variant that runs here.
Error open_model(const void* block, int64_t bytes, Model& model) {
    if (!Model::open(block, bytes, model) || model.variant() < 0 || model.variant() >= N_VARIANTS) return BAD_MODEL;
    return runs_here(model.variant()) ? OK : BAD_VARIANT;
}

// A table [rows][n] into rows of the rounded-up width.
void copy_rows(const float* from, int64_t rows, int n, int width, const float* to) {
    for (int64_t r = 0; r < rows; r++)
        memcpy(const_cast<float*>(to) + r * width, from + r * n, sizeof(float) * (size_t)n);
}

Error check_lengths(const Sizes& s, const int32_t* lengths, int64_t n_texts, int64_t n_ids, int64_t& longest) {
    const int64_t most = s.positions - s.first_position;
    int64_t sum = 0;
    longest = 0;
    for (int64_t t = 0; t < n_texts; t++) {
        if (lengths[t] < 1 || lengths[t] > most) return BAD_LENGTHS;
        sum += lengths[t];
        if (sum > n_ids) return BAD_LENGTHS;
        if (lengths[t] > longest) longest = lengths[t];
    }
    return sum == n_ids ? OK : BAD_LENGTHS;
}

Error check_ids(const Sizes& s, const int32_t* ids, int64_t n_ids) {
    for (int64_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= s.vocabulary) return BAD_ID;
    return OK;
}

}  // namespace

int32_t int8_variant_count() { return N_VARIANTS; }

const char* int8_variant_name(int32_t variant) {
    return variant >= 0 && variant < N_VARIANTS ? VARIANTS[variant]->name : nullptr;
}

int32_t int8_variant_runs_here(int32_t variant) { return runs_here(variant) ? 1 : 0; }

int64_t int8_model_bytes(const Sizes* sizes) {
    return sizes && sizes_are_possible(*sizes) ? Model::bytes(*sizes) : (int64_t)BAD_SIZES;
}

int32_t int8_create(void* model, int64_t model_bytes, const Sizes* sizes, int32_t variant) {
    if (!runs_here(variant)) return BAD_VARIANT;
    if (!sizes || !sizes_are_possible(*sizes)) return BAD_SIZES;
    if (!model || (uintptr_t)model % ALIGNMENT || model_bytes < Model::bytes(*sizes)) return TOO_SMALL;
    Model::create(model, *sizes, variant);
    return OK;
}

int32_t int8_model_variant(const void* model, int64_t model_bytes) {
    Model m;
    const Error error = open_model(model, model_bytes, m);
    return error ? (int32_t)error : m.variant();
}

int32_t int8_set_positions(void* model, int64_t model_bytes, const float* table, int64_t count) {
    Model m;
    if (const Error error = open_model(model, model_bytes, m)) return error;
    const Sizes& s = m.sizes();
    if (!table || count != (int64_t)s.positions * s.hidden) return BAD_TENSOR;
    if (!all_finite(table, count)) return NOT_FINITE;
    copy_rows(table, s.positions, s.hidden, Widths(s).hidden, m.position_row(0));
    return OK;
}

int32_t int8_set_norm(void* model, int64_t model_bytes, int32_t layer, int32_t norm, const float* weight,
                      const float* bias, int64_t count) {
    Model m;
    if (const Error error = open_model(model, model_bytes, m)) return error;
    const Sizes& s = m.sizes();
    if (!weight || !bias || count != s.hidden || norm < 0 || norm > 2) return BAD_TENSOR;
    if (norm && (layer < 0 || layer >= s.layers)) return BAD_TENSOR;
    if (!all_finite(weight, count) || !all_finite(bias, count)) return NOT_FINITE;
    const Norm to = norm == 0   ? m.embedding_norm()
                    : norm == 1 ? m.layer(layer).attention_norm
                                : m.layer(layer).ffn_norm;
    copy_rows(weight, 1, s.hidden, s.hidden, to.weight);
    copy_rows(bias, 1, s.hidden, s.hidden, to.bias);
    return OK;
}

int32_t int8_set_matrix(void* model, int64_t model_bytes, int32_t layer, int32_t matrix, const float* weight,
                        int64_t weight_count, const float* bias, int64_t bias_count) {
    Model m;
    if (const Error error = open_model(model, model_bytes, m)) return error;
    const Sizes& s = m.sizes();
    if (!weight || !bias || layer < 0 || layer >= s.layers || matrix < QUERY || matrix > DOWN) return BAD_TENSOR;
    const int64_t n_out = matrix == UP ? s.ffn : s.hidden, n_in = matrix == DOWN ? s.ffn : s.hidden;
    if (weight_count != n_out * n_in || bias_count != n_out) return BAD_TENSOR;
    if (!all_finite(weight, weight_count) || !all_finite(bias, bias_count)) return NOT_FINITE;
    pack_matrix(m, VARIANTS[m.variant()]->panel, layer, (Matrix)matrix, weight, bias);
    return OK;
}

int64_t int8_scratch_bytes(const void* model, int64_t model_bytes, int64_t tokens, int64_t longest) {
    Model m;
    if (const Error error = open_model(model, model_bytes, m)) return error;
    const Sizes& s = m.sizes();
    const bool possible = longest >= 1 && longest <= s.positions - s.first_position && tokens >= longest;
    if (!possible || tokens > MAX_TOKENS) return BAD_LENGTHS;
    return VARIANTS[m.variant()]->scratch_bytes(s, tokens, longest);
}

int32_t int8_forward(const void* model, int64_t model_bytes, const void* words, int64_t words_bytes, int32_t words_type,
                     const int32_t* ids, int64_t n_ids, const int32_t* lengths, int64_t n_texts, int32_t pooling,
                     float* out, int64_t out_count, void* scratch, int64_t scratch_bytes) {
    Model m;
    if (const Error error = open_model(model, model_bytes, m)) return error;
    const Sizes& s = m.sizes();
    if (pooling < HIDDEN_STATES || pooling > LAST_TOKEN) return BAD_POOLING;
    if (!words || words_type < FLOAT32 || words_type > BFLOAT16) return BAD_WORDS;
    if (words_bytes != (int64_t)s.vocabulary * s.hidden * (words_type == FLOAT32 ? 4 : 2)) return BAD_WORDS;
    if (!ids || !lengths || n_texts < 1 || n_ids < 1 || n_ids > MAX_TOKENS || n_texts > n_ids) return BAD_LENGTHS;
    int64_t longest;
    if (const Error error = check_lengths(s, lengths, n_texts, n_ids, longest)) return error;
    if (const Error error = check_ids(s, ids, n_ids)) return error;
    if (!out || out_count != (pooling == HIDDEN_STATES ? n_ids : n_texts) * s.hidden) return TOO_SMALL;
    const Variant& variant = *VARIANTS[m.variant()];
    if (!scratch || scratch_bytes < variant.scratch_bytes(s, n_ids, longest)) return TOO_SMALL;
    variant.forward(m, {words, words_type}, {ids, lengths, (int32_t)n_texts}, pooling, out, scratch);
    return OK;
}
