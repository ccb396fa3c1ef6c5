#include "pack.h"

#include <cmath>

namespace {

constexpr float LOG2_E = 1.44269504f;

struct Target {
    int place, first_column;  // of the linear layer's outputs
    int n_out, n_in;          // as stored
    bool heads_out, heads_in;
    double factor;
};

Target target_of(const Sizes& s, Matrix matrix) {
    const int width = Widths(s).attention;
    switch (matrix) {
        // The scale of the scores, and log2(e): attention then needs powers of two.
        case QUERY: return {0, 0, s.hidden, s.hidden, true, false, LOG2_E / std::sqrt((double)(s.hidden / s.heads))};
        case KEY: return {0, width, s.hidden, s.hidden, true, false, 1};
        case VALUE: return {0, 2 * width, s.hidden, s.hidden, true, false, 1};
        case PROJECTION: return {1, 0, s.hidden, s.hidden, false, true, 1};
        case UP: return {2, 0, s.ffn, s.hidden, false, false, 1};
        default: return {3, 0, s.hidden, s.ffn, false, false, 1};
    }
}

}  // namespace

bool all_finite(const float* values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!std::isfinite(values[i])) return false;
    return true;
}

void pack_matrix(const Model& model, int panel, int layer, Matrix matrix, const float* weight, const float* bias) {
    const Sizes& s = model.sizes();
    const Target t = target_of(s, matrix);
    const Heads heads = {s.hidden / s.heads, Widths(s).head};
    const Linear l = model.linear(layer, t.place);
    int8_t* to = const_cast<int8_t*>(l.weights);
    for (int out = 0; out < t.n_out; out++) {
        const float* row = weight + (int64_t)out * t.n_in;
        const int column = t.first_column + (t.heads_out ? heads.place(out) : out);
        float largest = 1e-30f;
        for (int in = 0; in < t.n_in; in++) largest = std::fmax(largest, std::fabs(row[in]));
        const float per_unit = 127 / largest;
        int8_t* panel_at = to + (int64_t)(column / panel) * panel * l.k + column % panel * 4;
        int sum = 0;
        for (int in = 0; in < t.n_in; in++) {
            const int k = t.heads_in ? heads.place(in) : in;
            const int value = (int)std::nearbyint(row[in] * per_unit);
            sum += value;
            panel_at[(int64_t)(k / 4) * panel * 4 + k % 4] = (int8_t)value;
        }
        const_cast<float*>(l.column_sum)[column] = (float)sum;
        const_cast<float*>(l.scale)[column] = (float)(largest / 127 * t.factor);
        const_cast<float*>(l.bias)[column] = bias ? (float)(bias[out] * t.factor) : 0;
    }
}
