// A packed model: one block of memory without pointers in it, so that it can lie in any buffer and be shared by forks.
//
// Widths are rounded up (heads to 32, all else to 64) and the surplus filled with zeros, so that no kernel has a ragged
// edge: a surplus column has weight, bias and norm 0, and stays 0 through every layer.
#pragma once
#include <cstddef>
#include <cstdint>

enum Activation : int32_t { GELU = 0, GELU_TANH = 1, RELU = 2 };
enum Pooling : int32_t { HIDDEN_STATES = 0, MEAN = 1, CLS = 2, MAX = 3, MEAN_SQRT_LEN = 4, LAST_TOKEN = 5 };
enum WordType : int32_t { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };
enum Matrix : int32_t { QUERY = 0, KEY = 1, VALUE = 2, PROJECTION = 3, UP = 4, DOWN = 5 };

// Also the layout of the ctypes structure in int8_encoder/_library.py.
struct Sizes {
    int32_t hidden, heads, layers, ffn;
    int32_t vocabulary, positions;
    int32_t first_position;  // the row of a sequence's first token in the position table
    int32_t padding_id;      // tokens that take no position (RoBERTa), or -1
    int32_t activation;
    float norm_eps;
};

// Used by objects that are compiled for different instruction sets: always inlined, or the linker would keep one copy for
// all, perhaps one that this processor can't run (see variant.h).
#define SHARED_INLINE inline __attribute__((always_inline))

constexpr int ALIGNMENT = 64;  // bytes: a cache line, and the widest vector
constexpr int WIDTH_STEP = 64;
constexpr int HEAD_STEP = 32;

SHARED_INLINE constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// y = x W^T + b, x in u8 by row, W in s8 by column of y.
struct Linear {
    int n, k;  // outputs and inputs, rounded up
    const int8_t* weights;  // [n / panel][k / 4][panel][4]
    const float *column_sum, *scale, *bias;
};
struct Norm {
    const float *weight, *bias;
};
struct Layer {
    Linear qkv, projection, up, down;
    Norm attention_norm, ffn_norm;
};

// Rounded-up widths, in floats.
struct Widths {
    int hidden, head, attention, ffn;
    SHARED_INLINE explicit Widths(const Sizes& s)
        : hidden((int)round_up(s.hidden, WIDTH_STEP)),
          head((int)round_up(s.hidden / s.heads, HEAD_STEP)),
          attention((int)round_up((int64_t)head * s.heads, WIDTH_STEP)),
          ffn((int)round_up(s.ffn, WIDTH_STEP)) {}
};

// Whether every size is positive, the heads divide the hidden size, and no product below can overflow.
bool sizes_are_possible(const Sizes& sizes);

// A view of a packed model. Only reads it; `open` checks that the block is one and is whole.
class Model {
public:
    static int64_t bytes(const Sizes& sizes);
    // Writes the header into `block` and clears the rest. `variant` is remembered: the layout of weights depends on it.
    static Model create(void* block, const Sizes& sizes, int variant);
    // False unless `block` holds a model of at most `block_bytes`.
    static bool open(const void* block, int64_t block_bytes, Model& model);

    SHARED_INLINE const Sizes& sizes() const { return *(const Sizes*)(base_ + SIZES_AT); }
    int variant() const;
    Layer layer(int number) const;
    Norm embedding_norm() const;
    const float* position_row(int row) const;
    Linear linear(int layer, int place) const;  // place 0..3: qkv, projection, up, down

    SHARED_INLINE Model() {}

private:
    static constexpr int SIZES_AT = 16;  // after the magic number and the variant
    const char* base_ = nullptr;
    int64_t layer_at(int number) const;
};
