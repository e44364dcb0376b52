// What a path is: the same product with one set of CPU instructions. All paths give the same bits.
#pragma once

#include "blocks.h"

namespace kernels {

struct Path {
    const char * name;
    bool (*runs_here)(); // whether this CPU has the instructions

    // Unpacks 16 rows, stride bytes apart, n_sub sub-blocks of each, into a tile.
    void (*unpack[n_types])(const uint8_t * rows, size_t stride, int n_sub, Tile & tile);

    // Adds products of tiles and the first n_columns of a group to out[tile][column][row], and fetches rows meanwhile.
    void (*multiply[n_types])(const Tile * tiles, int n_tiles, const Columns & columns, int n_sub, int n_columns, float * out,
                              Ahead ahead);

    // Quantizes n values of one column (256 at most, a multiple of 32) into place c of a group, for q4_k, q5_k, q6_k or for
    // q4_0 and q8_0.
    void (*quantize_k)(const float * x, int c, Columns & columns);
    void (*quantize_0)(const float * x, int n, int c, int offset, Columns & columns);

    int q8_0_offset; // 128 where the dot product takes unsigned weights
};

extern const Path scalar_path, avx2_path, avx_vnni_path, avx512_path, dotprod_path, i8mm_path;

// All that were compiled in, the fastest first; the scalar one, last, is for tests.
const Path * const * all_paths();

// The first of them that this CPU runs, or the one that AESEDGE_KERNELS_PATH names; null if there is none.
const Path * best_path();

} // namespace kernels
