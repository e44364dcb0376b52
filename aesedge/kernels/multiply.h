// Products of tiles with columns, written once for all vector widths. `L` is a path's vector: L::n rows in 32-bit lanes.
//
// Integer sums are exact. Floating-point ones are made in one order, whatever the width, the number of columns and the
// threads: within a sub-block integers, then one fused multiply-add by the sub-block's scale, in the order of the weights.
#pragma once

#include "blocks.h"

namespace kernels {

constexpr int tile_sums = group_columns * tile_rows; // floats of one tile in `out`, which has [tile][column][row]

// T tiles and N columns: every column's value is loaded once for all tiles, and T * N sums hide the latency of the dot product.
template <class L, Type type, int T, int N>
static inline void multiply_columns(const Tile * tiles, const Columns & x, int first_column, int n_sub, float * out) {
    constexpr Form form = layouts[type].form;
    constexpr int n_dwords = form == Form::sixteens ? 4 : 8; // of a sub-block
    for (int first = 0; first < tile_rows; first += L::n) {
        typename L::Float sums[T][N];
        for (int t = 0; t < T; ++t) {
            for (int c = 0; c < N; ++c) {
                sums[t][c] = form == Form::thirty_twos ? L::load(out + t * tile_sums + c * tile_rows + first) : L::zero();
            }
        }
        for (int j = 0; j < n_sub; ++j) {
            typename L::Int dots[T][N];
            const uint8_t * weights[T];
            for (int t = 0; t < T; ++t) {
                weights[t] = tiles[t].q[j * n_dwords][first];
                for (int c = 0; c < N; ++c) {
                    dots[t][c] = form == Form::minima ? L::zero_int() : L::same_int(x.start[j][first_column + c]);
                }
            }
            L::template add_dots<type, n_dwords, T, N>(dots, weights, x.q[j * n_dwords][first_column]);
            for (int t = 0; t < T; ++t) {
                const typename L::Float scale = L::load(&tiles[t].scale[j][first]);
                for (int c = 0; c < N; ++c) {
                    typename L::Float product = L::to_float(dots[t][c]);
                    if (form == Form::thirty_twos) {
                        product = L::multiply(product, L::same(x.d[j][first_column + c]));
                    }
                    sums[t][c] = L::multiply_add(product, scale, sums[t][c]);
                }
            }
        }
        for (int t = 0; t < T; ++t) {
            for (int c = 0; c < N; ++c) {
                float * const to = out + t * tile_sums + c * tile_rows + first;
                if (form == Form::minima) {
                    typename L::Int minima = L::zero_int();
                    for (int p = 0; p < 4; ++p) {
                        minima = L::add_pairs(minima, tiles[t].minimum[p][first], x.pairs[p][first_column + c]);
                    }
                    sums[t][c] = L::multiply_add(L::to_float(minima), L::load(&tiles[t].minus_dmin[first]), sums[t][c]);
                }
                if (form == Form::thirty_twos) {
                    L::store(to, sums[t][c]);
                } else {
                    L::store(to, L::multiply_add(sums[t][c], L::same(x.d[0][first_column + c]), L::load(to)));
                }
            }
        }
    }
}

// Columns in pieces of at most L::n_columns.
template <class L, Type type, int T, int N = L::n_columns>
static inline void multiply_tiles(const Tile * tiles, const Columns & x, int first_column, int n_sub, int n_columns, float * out) {
    if (n_columns >= N) {
        multiply_columns<L, type, T, N>(tiles, x, first_column, n_sub, out + first_column * tile_rows);
        if (n_columns > N) {
            multiply_tiles<L, type, T>(tiles, x, first_column + N, n_sub, n_columns - N, out);
        }
    } else if constexpr (N > 1) {
        multiply_tiles<L, type, T, N - 1>(tiles, x, first_column, n_sub, n_columns, out);
    }
}

template <class L, Type type>
static void multiply(const Tile * tiles, int n_tiles, const Columns & x, int n_sub, int n_columns, float * out) {
    int t = 0;
    for (; t + L::n_tiles <= n_tiles; t += L::n_tiles) {
        multiply_tiles<L, type, L::n_tiles>(tiles + t, x, 0, n_sub, n_columns, out + t * tile_sums);
    }
    for (; t < n_tiles; ++t) {
        multiply_tiles<L, type, 1>(tiles + t, x, 0, n_sub, n_columns, out + t * tile_sums);
    }
}

} // namespace kernels
