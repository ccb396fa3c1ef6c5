// What a variant of the kernels offers. Each is the same source (encoder.h and what it includes), compiled for another
// instruction set in a namespace of its own: no function may be shared between objects compiled for different sets, or
// the linker might keep the one that this processor can't run.
#pragma once
#include "model.h"

struct Words {
    const void* table;  // [vocabulary, hidden], as stored
    int32_t type;       // WordType
};
struct Texts {
    const int32_t* ids;      // of all texts, end to end
    const int32_t* lengths;  // tokens of each
    int32_t count;
};
struct Variant {
    const char* name;
    int panel;  // columns of weights that lie together
    int64_t (*scratch_bytes)(const Sizes&, int64_t tokens, int64_t longest);
    // `out`: [texts, hidden], or [tokens, hidden] for HIDDEN_STATES. All arguments were checked.
    void (*forward)(const Model&, const Words&, const Texts&, int pooling, float* out, void* scratch);
};

// Every variant that was compiled, best first. A variant's number is its place here.
extern const Variant* const VARIANTS[];
extern const int N_VARIANTS;
bool runs_here(int variant);
