// A product of quantized weights with columns of floats, cut into pieces that threads take as they get to them.
#pragma once

#include "path.h"

#include <atomic>
#include <memory>

namespace kernels {

// Columns of one matrix, quantized. Products with the same columns share them.
struct Quantized {
    const void * source; // identifies the matrix
    Form form;
    int offset;
    const uint8_t * x; // float
    size_t x_stride;   // bytes from one column to the next
    int64_t n_inputs, n_columns;
    Columns * to; // [span][group]
    std::atomic<int64_t> next{0}, n_done{0};

    int64_t n_spans() const { return (n_inputs + span - 1) / span; }
    int64_t n_groups() const { return (n_columns + group_columns - 1) / group_columns; }
};

struct Product {
    Type type;
    const uint8_t * weights;
    size_t weights_stride; // bytes from one row to the next
    int64_t n_rows;
    uint8_t * out; // float
    size_t out_stride;
    Quantized * columns = nullptr;
    std::atomic<int64_t> next{0}, n_done{0};

    int n_tiles() const;          // of a piece: tiles of rows that are unpacked at a time
    int64_t n_panel() const;      // columns of a piece
    int64_t n_row_pieces() const;
    int64_t n_pieces() const;
};

// What a thread computes with; 64-byte aligned.
struct Scratch {
    static constexpr int most_tiles = 4;
    static constexpr int64_t most_columns = 96; // those of 4,096 values stay in a second-level cache of 1 MB for all rows
    Tile tiles[most_tiles];
    float sums[most_columns * most_tiles * tile_rows];
};

// One column's span or one piece at a time, until none is left; several threads may be in it at once.
void quantize_columns(const Path & path, Quantized & columns);
void multiply_pieces(const Path & path, Product & product, Scratch & scratch);

} // namespace kernels
