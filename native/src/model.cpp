#include "model.h"

#include <cstring>

namespace {

constexpr uint64_t MAGIC = 0x31304b4338544e49;  // "INT8CK01": change it with any change of the layout
constexpr int64_t HEADER_BYTES = 64;
// 255 * 127 * k, the largest sum of a product, must stay below 2^31.
constexpr int32_t MAX_WIDTH = 65536;
constexpr int32_t MAX_COUNT = 1 << 24;  // layers, positions, words

int64_t floats(int64_t count) { return round_up(count * 4, ALIGNMENT); }
int64_t linear_bytes(int64_t n, int64_t k) { return round_up(n * k, ALIGNMENT) + 3 * floats(n); }

struct Shape {
    int n, k;
};
Shape shape_of(const Widths& w, int place) {
    switch (place) {
        case 0: return {3 * w.attention, w.hidden};
        case 1: return {w.hidden, w.attention};
        case 2: return {w.ffn, w.hidden};
        default: return {w.hidden, w.ffn};
    }
}
int64_t layer_bytes(const Widths& w) {
    int64_t sum = 4 * floats(w.hidden);
    for (int place = 0; place < 4; place++) sum += linear_bytes(shape_of(w, place).n, shape_of(w, place).k);
    return sum;
}

}  // namespace

bool sizes_are_possible(const Sizes& s) {
    const bool counts = s.hidden >= 1 && s.hidden <= MAX_WIDTH / 4 && s.heads >= 1 && s.heads <= s.hidden &&
                        s.layers >= 1 && s.layers <= 1024 && s.ffn >= 1 && s.ffn <= MAX_WIDTH && s.vocabulary >= 1 &&
                        s.vocabulary <= MAX_COUNT && s.positions >= 1 && s.positions <= MAX_COUNT;
    return counts && s.hidden % s.heads == 0 && Widths(s).attention <= MAX_WIDTH / 4 && s.first_position >= 0 &&
           s.first_position < s.positions && s.padding_id >= -1 && (s.padding_id < 0 || s.first_position >= 1) &&
           s.activation >= GELU && s.activation <= RELU && s.norm_eps >= 0 && s.norm_eps < 1;
}

int64_t Model::bytes(const Sizes& sizes) {
    const Widths w(sizes);
    return HEADER_BYTES + floats((int64_t)sizes.positions * w.hidden) + 2 * floats(w.hidden) +
           sizes.layers * layer_bytes(w);
}

Model Model::create(void* block, const Sizes& sizes, int variant) {
    memset(block, 0, (size_t)bytes(sizes));
    const int32_t number = variant;
    memcpy(block, &MAGIC, sizeof MAGIC);
    memcpy((char*)block + sizeof MAGIC, &number, sizeof number);
    memcpy((char*)block + SIZES_AT, &sizes, sizeof sizes);
    Model model;
    model.base_ = (const char*)block;
    return model;
}

bool Model::open(const void* block, int64_t block_bytes, Model& model) {
    uint64_t magic;
    if (!block || (uintptr_t)block % ALIGNMENT || block_bytes < HEADER_BYTES) return false;
    memcpy(&magic, block, sizeof magic);
    model.base_ = (const char*)block;
    return magic == MAGIC && sizes_are_possible(model.sizes()) && block_bytes >= bytes(model.sizes());
}

int Model::variant() const {
    int32_t number;
    memcpy(&number, base_ + sizeof MAGIC, sizeof number);
    return number;
}

const float* Model::position_row(int row) const {
    return (const float*)(base_ + HEADER_BYTES) + (int64_t)row * Widths(sizes()).hidden;
}

Norm Model::embedding_norm() const {
    const Widths w(sizes());
    const char* at = base_ + HEADER_BYTES + floats((int64_t)sizes().positions * w.hidden);
    return {(const float*)at, (const float*)(at + floats(w.hidden))};
}

int64_t Model::layer_at(int number) const {
    const Widths w(sizes());
    return HEADER_BYTES + floats((int64_t)sizes().positions * w.hidden) + 2 * floats(w.hidden) +
           number * layer_bytes(w);
}

Linear Model::linear(int layer, int place) const {
    const Widths w(sizes());
    const char* at = base_ + layer_at(layer) + 4 * floats(w.hidden);
    for (int before = 0; before < place; before++) at += linear_bytes(shape_of(w, before).n, shape_of(w, before).k);
    const Shape s = shape_of(w, place);
    const char* sums = at + round_up((int64_t)s.n * s.k, ALIGNMENT);
    return {s.n, s.k, (const int8_t*)at, (const float*)sums, (const float*)(sums + floats(s.n)),
            (const float*)(sums + 2 * floats(s.n))};
}

Layer Model::layer(int number) const {
    const int64_t step = floats(Widths(sizes()).hidden);
    const char* at = base_ + layer_at(number);
    const auto norm = [&](int i) { return (const float*)(at + i * step); };
    return {linear(number, 0), linear(number, 1), linear(number, 2), linear(number, 3),
            {norm(0), norm(1)}, {norm(2), norm(3)}};
}
