// Generated models, texts and wrong arguments through every entry point; a program of its own, built with sanitizers by
// the tests (and for arm64, where it runs in an emulator). Every block of memory is exactly as large as it was asked for,
// so that a byte too far is seen. Prints what went wrong and ends with 1, or a line for each variant and 0.
//
// usage: fuzz SEED CASES
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "src/api.h"

namespace {

using Floats = std::vector<float>;
std::mt19937 generator;

int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }
Floats normal(size_t n, float deviation, float mean = 0) {
    std::normal_distribution<float> distribution(mean, deviation);
    Floats values(n);
    for (float& v : values) v = distribution(generator);
    return values;
}

[[noreturn]] void fail(const char* what, const char* variant) {
    std::printf("%s: %s\n", variant, what);
    std::exit(1);
}
void expect(bool holds, const char* what, const char* variant) {
    if (!holds) fail(what, variant);
}

// Aligned, and not a byte longer.
struct Block {
    void* at;
    int64_t bytes;
    explicit Block(int64_t n) : at(nullptr), bytes(n) {
        if (posix_memalign(&at, ALIGNMENT, (size_t)n)) std::abort();
    }
    ~Block() { std::free(at); }
    Block(const Block&) = delete;
};

struct Weights {
    Sizes sizes;
    Floats words, positions;
    std::vector<Floats> matrices, biases;  // [layer * 6 + matrix]
    std::vector<Floats> norms;             // [(layer * 2 + norm) * 2], weight then bias; the embeddings' last
};

Weights generate() {
    Weights w;
    const int heads = between(1, 5), head = between(1, 70);
    Sizes& s = w.sizes;
    s = {heads * head, heads, between(1, 3), between(1, 300), between(1, 200), between(4, 70), 0, -1, between(0, 2),
         1e-12f};
    if (between(0, 1)) s.padding_id = between(0, s.vocabulary - 1), s.first_position = between(1, 3);
    const float deviation = 0.05f * (float)between(1, 6);
    w.words = normal((size_t)s.vocabulary * s.hidden, 1);
    w.positions = normal((size_t)s.positions * s.hidden, 0.3f);
    for (int i = 0; i < s.layers; i++)
        for (int m = QUERY; m <= DOWN; m++) {
            const int n_out = m == UP ? s.ffn : s.hidden, n_in = m == DOWN ? s.ffn : s.hidden;
            w.matrices.push_back(normal((size_t)n_out * n_in, deviation));
            w.biases.push_back(normal((size_t)n_out, 0.2f));
        }
    for (int i = 0; i < s.layers * 2 + 1; i++) {
        w.norms.push_back(normal((size_t)s.hidden, 0.1f, 1));
        w.norms.push_back(normal((size_t)s.hidden, 0.1f));
    }
    return w;
}

void pack(const Weights& w, int variant, const char* name, const Block& model) {
    const Sizes& s = w.sizes;
    const int64_t n = model.bytes;
    expect(int8_create(model.at, n, &s, variant) == OK, "create", name);
    expect(int8_set_positions(model.at, n, w.positions.data(), (int64_t)w.positions.size()) == OK, "positions", name);
    for (int i = 0; i < s.layers; i++) {
        for (int m = QUERY; m <= DOWN; m++) {
            const Floats &matrix = w.matrices[(size_t)(i * 6 + m)], &bias = w.biases[(size_t)(i * 6 + m)];
            expect(int8_set_matrix(model.at, n, i, m, matrix.data(), (int64_t)matrix.size(), bias.data(),
                                   (int64_t)bias.size()) == OK, "matrix", name);
        }
        for (int norm = 0; norm < 2; norm++) {
            const size_t at = (size_t)(i * 2 + norm) * 2;
            expect(int8_set_norm(model.at, n, i, norm + 1, w.norms[at].data(), w.norms[at + 1].data(), s.hidden) == OK,
                   "norm", name);
        }
    }
    const size_t last = w.norms.size() - 2;
    expect(int8_set_norm(model.at, n, 0, 0, w.norms[last].data(), w.norms[last + 1].data(), s.hidden) == OK,
           "embedding norm", name);
}

struct Input {
    std::vector<int32_t> ids, lengths;
};

Input texts(const Sizes& s) {
    Input input;
    const int count = between(1, between(0, 9) ? 6 : 30), most = s.positions - s.first_position;
    for (int t = 0; t < count; t++) {
        input.lengths.push_back(between(1, most));
        for (int i = 0; i < input.lengths.back(); i++) input.ids.push_back(between(0, s.vocabulary - 1));
    }
    return input;
}

Floats run(const Block& model, const Weights& w, const Input& input, int pooling, const char* name) {
    int64_t longest = 0;
    for (int32_t length : input.lengths) longest = std::max<int64_t>(longest, length);
    const int64_t tokens = (int64_t)input.ids.size(), texts = (int64_t)input.lengths.size();
    const int64_t bytes = int8_scratch_bytes(model.at, model.bytes, tokens, longest);
    expect(bytes > 0, "scratch bytes", name);
    const Block scratch(bytes);
    Floats out((size_t)((pooling == HIDDEN_STATES ? tokens : texts) * w.sizes.hidden));
    const int32_t answer = int8_forward(
        model.at, model.bytes, w.words.data(), (int64_t)w.words.size() * 4, FLOAT32, input.ids.data(), tokens,
        input.lengths.data(), texts, pooling, out.data(), (int64_t)out.size(), scratch.at, scratch.bytes);
    expect(answer == OK, "forward", name);
    return out;
}

// 1 - the cosine of two vectors; both zero (or of one constant, by the norm): 0.
double distance(const float* a, const float* b, int n) {
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return aa > 0 && bb > 0 ? 1 - ab / std::sqrt(aa * bb) : aa != bb;
}

void same_bits_alone(const Block& model, const Weights& w, const Input& input, int pooling, const char* name) {
    const Floats together = run(model, w, input, pooling, name);
    size_t id = 0, at = 0;
    for (int32_t length : input.lengths) {
        const auto first = input.ids.begin() + (std::ptrdiff_t)id;
        const Floats alone = run(model, w, {{first, first + length}, {length}}, pooling, name);
        expect(!std::memcmp(alone.data(), together.data() + at, alone.size() * sizeof(float)),
               "another answer alone than in a batch", name);
        id += (size_t)length, at += alone.size();
    }
}

void refuses_wrong_arguments(const Block& model, const Weights& w, const Input& good, const char* name) {
    const Sizes& s = w.sizes;
    const int64_t words = (int64_t)w.words.size() * 4, tokens = (int64_t)good.ids.size();
    const int64_t texts = (int64_t)good.lengths.size();
    Floats out((size_t)(texts * s.hidden));
    const int64_t most = s.positions - s.first_position;
    const Block scratch(int8_scratch_bytes(model.at, model.bytes, std::max(tokens, most), most));
    const auto call = [&](const Input& input, int64_t model_bytes, int64_t words_bytes, int64_t n_out, int64_t n_scratch,
                          int pooling) {
        return int8_forward(model.at, model_bytes, w.words.data(), words_bytes, FLOAT32, input.ids.data(),
                            (int64_t)input.ids.size(), input.lengths.data(), (int64_t)input.lengths.size(), pooling,
                            out.data(), n_out, scratch.at, n_scratch);
    };
    const int64_t n = model.bytes, n_out = (int64_t)out.size(), n_scratch = scratch.bytes;
    expect(call(good, n - 1, words, n_out, n_scratch, MEAN) == BAD_MODEL, "a model cut short", name);
    expect(call(good, n, words - 1, n_out, n_scratch, MEAN) == BAD_WORDS, "a word table cut short", name);
    expect(call(good, n, words, n_out - 1, n_scratch, MEAN) == TOO_SMALL, "a small result", name);
    expect(call(good, n, words, n_out, 64, MEAN) == TOO_SMALL, "small scratch memory", name);
    expect(call(good, n, words, n_out, n_scratch, 6) == BAD_POOLING, "an unknown pooling", name);
    Input bad = good;
    bad.ids[(size_t)between(0, (int)tokens - 1)] = between(0, 1) ? s.vocabulary : -1;
    expect(call(bad, n, words, n_out, n_scratch, MEAN) == BAD_ID, "an id outside of the vocabulary", name);
    bad = good, bad.lengths[0] += 1;
    expect(call(bad, n, words, n_out, n_scratch, MEAN) == BAD_LENGTHS, "lengths that don't add up", name);
    bad = good, bad.lengths[0] = 0;
    expect(call(bad, n, words, n_out, n_scratch, MEAN) == BAD_LENGTHS, "a text without tokens", name);
    bad.ids.assign((size_t)(s.positions - s.first_position + 1), 0), bad.lengths.assign(1, (int32_t)bad.ids.size());
    expect(call(bad, n, words, n_out, n_scratch, MEAN) == BAD_LENGTHS, "too long a text", name);
    Floats infinite = w.matrices[0];
    infinite[0] = INFINITY;
    expect(int8_set_matrix(model.at, n, 0, QUERY, infinite.data(), (int64_t)infinite.size(), w.biases[0].data(),
                           s.hidden) == NOT_FINITE, "an infinite weight", name);
    expect(int8_set_matrix(model.at, n, s.layers, QUERY, w.matrices[0].data(), (int64_t)w.matrices[0].size(),
                           w.biases[0].data(), s.hidden) == BAD_TENSOR, "a layer too many", name);
    Sizes impossible = s;
    impossible.hidden = between(0, 1) ? -1 : 1 << 30;
    expect(int8_model_bytes(&impossible) == BAD_SIZES, "impossible sizes", name);
}

// A header of random bytes: refused, or a model of sizes that fit; never a step outside.
void survives_a_damaged_header(const Block& model, const Weights& w, const Input& input, const char* name) {
    std::vector<char> header((const char*)model.at, (const char*)model.at + 64);
    for (int i = 0; i < 3; i++) ((uint8_t*)model.at)[between(0, 55)] = (uint8_t)between(0, 255);
    const int64_t tokens = (int64_t)input.ids.size();
    const int64_t bytes = int8_scratch_bytes(model.at, model.bytes, tokens, tokens);
    if (bytes > 0) expect(bytes < (int64_t)1 << 40, "scratch memory beyond reason", name);
    Floats out(w.sizes.hidden);
    char scratch[1];
    int8_forward(model.at, model.bytes, w.words.data(), (int64_t)w.words.size() * 4, FLOAT32, input.ids.data(), tokens,
                 input.lengths.data(), (int64_t)input.lengths.size(), MEAN, out.data(), w.sizes.hidden, scratch, 1);
    std::memcpy(model.at, header.data(), header.size());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    generator.seed((unsigned)std::atoi(argv[1]));
    const int cases = std::atoi(argv[2]), portable = int8_variant_count() - 1;
    double worst[16] = {};
    for (int i = 0; i < cases; i++) {
        const Weights w = generate();
        const Input input = texts(w.sizes);
        const Block block(int8_model_bytes(&w.sizes));
        pack(w, portable, "portable", block);
        const Floats wanted = run(block, w, input, MEAN, "portable");
        for (int v = 0; v <= portable; v++) {
            if (!int8_variant_runs_here(v)) continue;
            const char* name = int8_variant_name(v);
            pack(w, v, name, block);
            const Floats got = run(block, w, input, MEAN, name);
            // A norm over a few numbers makes any difference a large one: such models are run, but not compared.
            for (size_t t = 0; w.sizes.hidden >= 32 && t < input.lengths.size(); t++) {
                const size_t at = t * (size_t)w.sizes.hidden;
                worst[v] = std::max(worst[v], distance(&got[at], &wanted[at], w.sizes.hidden));
            }
            same_bits_alone(block, w, input, between(HIDDEN_STATES, LAST_TOKEN), name);
            refuses_wrong_arguments(block, w, input, name);
            survives_a_damaged_header(block, w, input, name);
        }
    }
    for (int v = 0; v <= portable; v++)
        if (int8_variant_runs_here(v)) std::printf("%s %.6f\n", int8_variant_name(v), worst[v]);
    return 0;
}
