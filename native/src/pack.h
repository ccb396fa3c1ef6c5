// Weights into the block: quantised to s8 by output channel, in the order in which the kernels read them.
#pragma once
#include "model.h"

// Where row `out` and column `in` of a stored matrix go, for a matrix whose rows or columns are heads.
struct Heads {
    int head, rounded;  // floats of a head as stored, and rounded up
    int place(int i) const { return i / head * rounded + i % head; }
};

// weight [n_out, n_in] float32, bias [n_out] or null. All must be finite: the caller looks.
void pack_matrix(const Model& model, int panel, int layer, Matrix matrix, const float* weight, const float* bias);
bool all_finite(const float* values, int64_t count);
