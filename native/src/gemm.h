// Products of u8 rows with s8 weights, and what is done to the sums while they are in registers.
//
// With x ~ offset + scale * q for the row and w ~ s * v for the column, the sum over k of x * w is
// (scale * sum(q * v) + offset * sum(v)) * s. So no zero point has to be whole, and none is subtracted from a sum.
#pragma once
#include "activation.h"
#include "quantise.h"

namespace INT8_VARIANT {

constexpr int PANEL = TILE_VECTORS * W;  // columns whose weights lie together; 64 is a multiple of it

enum Epilogue { TO_QKV, ACTIVATE_GELU, ACTIVATE_GELU_TANH, ACTIVATE_RELU, ADD_RESIDUAL };
constexpr bool activates(Epilogue e) { return e == ACTIVATE_GELU || e == ACTIVATE_GELU_TANH || e == ACTIVATE_RELU; }

struct Product {
    Rows x;
    const Linear& linear;
    float* y;     // [rows][n]; with ADD_RESIDUAL it holds the residual before
    Qkv* qkv;     // instead of y with TO_QKV
    F* row_max;   // with an activation: per row, the largest of each lane
    const int8_t* next;  // weights of the product that follows
};

// What to fetch into the second-level cache while a tile computes: some lines of the following panel at each step of k.
struct Ahead {
    const int8_t* weights;
    int step;  // 0: another tile fetches
};

template <int ROWS, Epilogue E>
INLINE void finish_row(const Product& p, int64_t r, int column, const I* sums) {
    const Linear& l = p.linear;
    const F scale = all(p.x.scale[r]), offset = all(p.x.offset[r]);
    const int64_t at = r * l.n + column;
    F largest = all(0);
#pragma GCC unroll 16
    for (int v = 0; v < TILE_VECTORS; v++) {
        const int c = column + v * W;
        F y = mul(offset, load(l.column_sum + c));
        y = fma(to_float(sums[v]), scale, y);
        y = fma(y, load(l.scale + c), load(l.bias + c));
        if constexpr (activates(E)) {
            y = activate<E - ACTIVATE_GELU>(y);
            largest = max(largest, y);
        }
        if (E == ADD_RESIDUAL) y = add(y, load(p.y + at + v * W));
        if (E == TO_QKV)
            store_qkv(p.qkv + at + v * W, y);
        else
            store(p.y + at + v * W, y);
    }
    if (activates(E)) p.row_max[r] = column ? max(p.row_max[r], largest) : largest;
}

// ROWS rows from `first_row` times one panel, over all of k.
template <int ROWS, Epilogue E, int LINES>
static void tile(const Product& p, int first_row, int column, Ahead ahead) {
    const int k = p.linear.k;
    const uint8_t* x = p.x.q + (int64_t)first_row * k;
    const int8_t* weights = p.linear.weights + (int64_t)column * k;
    I sums[ROWS][TILE_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
        for (int v = 0; v < TILE_VECTORS; v++) sums[r][v] = zero();
    for (int i = 0; i < k; i += 4, weights += PANEL * 4) {
        decltype(load_weights(weights)) b[TILE_VECTORS];
#pragma GCC unroll 16
        for (int v = 0; v < TILE_VECTORS; v++) b[v] = load_weights(weights + v * W * 4);
#pragma GCC unroll 4
        for (int line = 0; line < LINES; line++) __builtin_prefetch(ahead.weights + line * 64, 0, 2);
        ahead.weights += ahead.step;
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const auto a = all_4_bytes(x + (int64_t)r * k + i);
#pragma GCC unroll 16
            for (int v = 0; v < TILE_VECTORS; v++) dot(sums[r][v], a, b[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) finish_row<ROWS, E>(p, first_row + r, column, sums[r]);
}

template <Epilogue E, int LINES>
static void tile_of(int rows, const Product& p, int first_row, int column, Ahead ahead) {
    static_assert(TILE_ROWS <= 6, "a case for each number of rows");
    switch (rows) {
        case 1: return tile<1, E, LINES>(p, first_row, column, ahead);
        case 2: return tile<2, E, LINES>(p, first_row, column, ahead);
        case 3: return tile<(TILE_ROWS >= 3 ? 3 : 1), E, LINES>(p, first_row, column, ahead);
        case 4: return tile<(TILE_ROWS >= 4 ? 4 : 1), E, LINES>(p, first_row, column, ahead);
        case 5: return tile<(TILE_ROWS >= 5 ? 5 : 1), E, LINES>(p, first_row, column, ahead);
        default: return tile<(TILE_ROWS >= 6 ? 6 : 1), E, LINES>(p, first_row, column, ahead);
    }
}

// A panel stays in the second-level cache while all rows pass over it; the first tiles fetch the next one meanwhile, a
// share each: a panel is PANEL / 16 times k / 4 lines of 64 bytes.
template <Epilogue E, int LINES>
static void multiply_all(const Product& p, int n_rows) {
    const int n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS, least = n_rows / n_tiles, more = n_rows % n_tiles;
    const int64_t panel_bytes = (int64_t)PANEL * p.linear.k, share = (int64_t)16 * p.linear.k * LINES;
    for (int column = 0; column < p.linear.n; column += PANEL) {
        const int8_t* panel = p.linear.weights + (int64_t)column * p.linear.k;
        const int8_t* following = column + PANEL < p.linear.n ? panel + panel_bytes : p.next;
        for (int t = 0, row = 0; t < n_tiles; t++) {
            const int rows = least + (t < more);
            const bool fetches = t * share < panel_bytes;
            const Ahead ahead = {fetches ? following + t * share : panel, fetches ? 64 * LINES : 0};
            tile_of<E, LINES>(rows, p, row, column, ahead);
            row += rows;
        }
    }
}

// n_rows >= 1.
template <Epilogue E>
static void multiply(const Product& p, int n_rows) {
    constexpr int SHARES = PANEL >= 64 ? 4 : 1;
    if (n_rows > TILE_ROWS) return multiply_all<E, (SHARES + 1) / 2>(p, n_rows);
    multiply_all<E, SHARES>(p, n_rows);
}

}  // namespace INT8_VARIANT
