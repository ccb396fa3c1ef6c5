// The C interface, called through ctypes (int8_encoder/_library.py). Every entry point checks all that it is given
// before it touches memory, and returns a negative Error. No state, no threads, no allocation: any number of threads
// and forked processes may call at once, each with scratch memory of its own.
#pragma once
#include "model.h"

enum Error : int32_t {
    OK = 0,
    BAD_VARIANT = -1,      // no such variant, or this processor can't run it
    BAD_SIZES = -2,        // see sizes_are_possible
    BAD_MODEL = -3,        // not a packed model, cut short, or for another variant than exists here
    BAD_TENSOR = -4,       // no such tensor, or not of that many values
    NOT_FINITE = -5,       // a weight is NaN or infinite
    BAD_LENGTHS = -6,      // a text without tokens or with more than the model has positions, or too many in all
    BAD_ID = -7,           // a token id outside of the vocabulary
    BAD_POOLING = -8,
    BAD_WORDS = -9,        // the word table isn't [vocabulary, hidden] of a known type
    TOO_SMALL = -10,       // a block of memory is smaller than needed, or null
};

#define INT8_API extern "C" __attribute__((visibility("default")))

INT8_API int32_t int8_variant_count();
INT8_API const char* int8_variant_name(int32_t variant);       // null: no such variant
INT8_API int32_t int8_variant_runs_here(int32_t variant);      // 1 or 0

// Bytes of a packed model.
INT8_API int64_t int8_model_bytes(const Sizes* sizes);
// `model`: aligned to 64 bytes. Clears it; all weights are 0 afterwards.
INT8_API int32_t int8_create(void* model, int64_t model_bytes, const Sizes* sizes, int32_t variant);
// The variant that the model was packed for.
INT8_API int32_t int8_model_variant(const void* model, int64_t model_bytes);

INT8_API int32_t int8_set_positions(void* model, int64_t model_bytes, const float* table, int64_t count);
// norm 0: embeddings (layer is ignored), 1: behind attention, 2: behind the feed-forward layer.
INT8_API int32_t int8_set_norm(void* model, int64_t model_bytes, int32_t layer, int32_t norm, const float* weight,
                               const float* bias, int64_t count);
INT8_API int32_t int8_set_matrix(void* model, int64_t model_bytes, int32_t layer, int32_t matrix, const float* weight,
                                 int64_t weight_count, const float* bias, int64_t bias_count);

// `tokens` in all, of texts of at most `longest`.
INT8_API int64_t int8_scratch_bytes(const void* model, int64_t model_bytes, int64_t tokens, int64_t longest);
// out: [texts, hidden], or [tokens, hidden] without pooling.
INT8_API int32_t int8_forward(const void* model, int64_t model_bytes, const void* words, int64_t words_bytes,
                              int32_t words_type, const int32_t* ids, int64_t n_ids, const int32_t* lengths,
                              int64_t n_texts, int32_t pooling, float* out, int64_t out_count, void* scratch,
                              int64_t scratch_bytes);
