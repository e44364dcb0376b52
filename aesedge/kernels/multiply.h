// Products of tiles with columns, written once for all vector widths. `L` is a path's vector: L::n rows in 32-bit lanes.
//
// Integer sums are exact. Floating-point ones are made in one order, whatever the width, the number of columns and the
// threads: within a sub-block integers, then one fused multiply-add by the sub-block's scale, in the order of the weights.
#pragma once

#include "blocks.h"

namespace kernels {

// Fetches rows that are unpacked next into the cache, a few at a time: all at once would stop the loads in between.
template <Type type> static inline void fetch(Ahead & ahead) {
    constexpr size_t n_bytes = span / layouts[type].block_weights * layouts[type].block_bytes;
    for (int i = 0; i < ahead.n_at_once && ahead.n_rows > 0; ++i, --ahead.n_rows) {
#pragma GCC unroll 5
        for (size_t at = 0; at < n_bytes; at += 64) {
            __builtin_prefetch(ahead.next + at);
        }
        ahead.next += ahead.stride;
    }
}

constexpr int tile_sums = group_columns * tile_rows; // floats of one tile in `out`, which has [tile][column][row]

// T tiles and N columns: every column's value is loaded once for all tiles, and T * N sums hide the latency of the dot product.
template <class L, Type type, int T, int N>
static inline void multiply_columns(const Tile * tiles, const Columns & x, int first_column, int n_sub, float * out,
                                    Ahead & ahead) {
    constexpr Form form = layouts[type].form;
    constexpr int n_dwords = form == Form::sixteens ? 4 : 8; // of a sub-block
    for (int first = 0; first < tile_rows; first += L::n) {
        typename L::Float sums[T][N];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
            for (int c = 0; c < N; ++c) {
                if constexpr (form == Form::thirty_twos) {
                    sums[t][c] = L::load(out + t * tile_sums + c * tile_rows + first);
                } else if constexpr (form == Form::minima) {
                    typename L::Int minima = L::zero_int();
#pragma GCC unroll 4
                    for (int p = 0; p < 4; ++p) {
                        minima = L::add_pairs(minima, tiles[t].minimum[p][first], x.pairs[p][first_column + c]);
                    }
                    sums[t][c] = L::multiply(L::to_float(minima), L::load(&tiles[t].minus_dmin[first]));
                } else {
                    sums[t][c] = L::zero();
                }
            }
        }
        for (int j = 0; j < n_sub; ++j) {
            typename L::Int dots[T][N];
            const uint8_t * weights[T];
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) {
                weights[t] = tiles[t].q[j * n_dwords][first];
#pragma GCC unroll 8
                for (int c = 0; c < N; ++c) {
                    dots[t][c] = form == Form::minima ? L::zero_int() : L::same_int(x.start[j][first_column + c]);
                }
            }
            fetch<type>(ahead);
            L::template add_dots<type, n_dwords, T, N>(dots, weights, x.q[j * n_dwords][first_column]);
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) {
                const typename L::Float scale = L::load(&tiles[t].scale[j][first]);
#pragma GCC unroll 8
                for (int c = 0; c < N; ++c) {
                    typename L::Float product = L::to_float(dots[t][c]);
                    if (form == Form::thirty_twos) {
                        product = L::multiply(product, L::same(x.d[j][first_column + c]));
                    }
                    sums[t][c] = L::multiply_add(product, scale, sums[t][c]);
                }
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
            for (int c = 0; c < N; ++c) {
                float * const to = out + t * tile_sums + c * tile_rows + first;
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
static inline void multiply_tiles(const Tile * tiles, const Columns & x, int first_column, int n_sub, int n_columns, float * out,
                                  Ahead & ahead) {
    if (n_columns >= N) {
        multiply_columns<L, type, T, N>(tiles, x, first_column, n_sub, out + first_column * tile_rows, ahead);
        if (n_columns > N) {
            multiply_tiles<L, type, T>(tiles, x, first_column + N, n_sub, n_columns - N, out, ahead);
        }
    } else if constexpr (N > 1) {
        multiply_tiles<L, type, T, N - 1>(tiles, x, first_column, n_sub, n_columns, out, ahead);
    }
}

template <class L, Type type>
static void multiply(const Tile * tiles, int n_tiles, const Columns & x, int n_sub, int n_columns, float * out, Ahead ahead) {
    const int n_fetches = (n_tiles / L::n_tiles + n_tiles % L::n_tiles) * ((n_columns + L::n_columns - 1) / L::n_columns) *
                          (tile_rows / L::n) * n_sub;
    ahead.n_at_once = (ahead.n_rows + n_fetches - 1) / n_fetches;
    int t = 0;
    for (; t + L::n_tiles <= n_tiles; t += L::n_tiles) {
        multiply_tiles<L, type, L::n_tiles>(tiles + t, x, 0, n_sub, n_columns, out + t * tile_sums, ahead);
    }
    for (; t < n_tiles; ++t) {
        multiply_tiles<L, type, 1>(tiles + t, x, 0, n_sub, n_columns, out + t * tile_sums, ahead);
    }
}

} // namespace kernels
