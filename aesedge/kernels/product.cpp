#include "product.h"

#include <algorithm>
#include <cstring>

namespace kernels {

// Few columns: small pieces, since there are many. Many columns: each span of them is read once for four tiles.
int Product::n_tiles() const {
    return columns->n_columns <= 2 * group_columns ? 2 : Scratch::most_tiles;
}

// Even panels of whole groups.
int64_t Product::n_panel() const {
    const int64_t n_groups = columns->n_groups(), most = Scratch::most_columns / group_columns;
    const int64_t n_panels = (n_groups + most - 1) / most;
    return (n_groups + n_panels - 1) / n_panels * group_columns;
}

int64_t Product::n_row_pieces() const {
    const int64_t n = static_cast<int64_t>(n_tiles()) * tile_rows;
    return (n_rows + n - 1) / n;
}

int64_t Product::n_pieces() const {
    return n_row_pieces() * ((columns->n_columns + n_panel() - 1) / n_panel());
}

void quantize_columns(const Path & path, Quantized & columns) {
    const int64_t n_spans = columns.n_spans(), n_groups = columns.n_groups(), n = n_spans * n_groups;
    for (int64_t i; (i = columns.next.fetch_add(1, std::memory_order_relaxed)) < n;) {
        const int64_t b = i / n_groups, group = i % n_groups;
        Columns & to = columns.to[i];
        const auto n_here = static_cast<int>(std::min<int64_t>(group_columns, columns.n_columns - group * group_columns));
        const auto n_values = static_cast<int>(std::min<int64_t>(span, columns.n_inputs - b * span));
        for (int c = 0; c < n_here; ++c) {
            const size_t column = static_cast<size_t>(group * group_columns + c);
            const auto * const x = reinterpret_cast<const float *>(columns.x + column * columns.x_stride) + b * span;
            if (columns.form == Form::thirty_twos) {
                path.quantize_0(x, n_values, c, columns.offset, to);
            } else {
                path.quantize_k(x, c, to);
            }
        }
        columns.n_done.fetch_add(1, std::memory_order_release);
    }
}

namespace {

// Unpacks 16 rows from a row on. Rows beyond the last one are read as zeros, not beyond its end.
void unpack(const Path & path, const Product & product, int64_t row, size_t at, int n_sub, Tile & tile) {
    const uint8_t * rows = product.weights + static_cast<size_t>(row) * product.weights_stride + at;
    size_t stride = product.weights_stride;
    alignas(64) uint8_t padded[tile_rows][8 * sizeof(BlockQ80)];
    static_assert(sizeof(BlockQ6K) <= sizeof padded[0], "a span of every type fits");
    if (const int64_t n = product.n_rows - row; n < tile_rows) {
        const Layout & layout = layouts[product.type];
        const size_t n_bytes = layout.block_weights == span ? layout.block_bytes : static_cast<size_t>(n_sub) * layout.block_bytes;
        std::memset(padded, 0, sizeof padded);
        for (int64_t i = 0; i < n; ++i) {
            std::memcpy(padded[i], rows + static_cast<size_t>(i) * stride, n_bytes);
        }
        rows = padded[0];
        stride = sizeof padded[0];
    }
    path.unpack[product.type](rows, stride, n_sub, tile);
}

int64_t first_row_of(const Product & product, int64_t piece) {
    return piece % product.n_row_pieces() * product.n_tiles() * tile_rows;
}

// What is unpacked some spans after span b of a piece, in this piece or in the next one of this thread.
Ahead ahead_of(const Product & product, int64_t piece, int64_t next_piece, int64_t b) {
    const Layout & layout = layouts[product.type];
    const int64_t n_spans = product.columns->n_spans();
    b += product.columns->n_columns <= group_columns ? 2 : 1; // few columns leave little time
    if (b >= n_spans) {
        b -= n_spans;
        piece = next_piece;
    }
    if (b >= n_spans || piece >= product.n_pieces()) {
        return {nullptr, 0, 0, 0};
    }
    const int64_t row = first_row_of(product, piece);
    const size_t at = static_cast<size_t>(b) * (span / layout.block_weights) * layout.block_bytes;
    return {product.weights + static_cast<size_t>(row) * product.weights_stride + at, product.weights_stride,
            static_cast<int>(std::min<int64_t>(product.n_tiles() * tile_rows, product.n_rows - row)), 0};
}

void multiply_piece(const Path & path, const Product & product, int64_t piece, int64_t next_piece, Scratch & scratch) {
    const Layout & layout = layouts[product.type];
    const Quantized & columns = *product.columns;
    const int64_t first_row = first_row_of(product, piece);
    const int64_t first_column = piece / product.n_row_pieces() * product.n_panel();
    const int64_t n_columns = std::min(product.n_panel(), columns.n_columns - first_column);
    const int64_t n_groups = (n_columns + group_columns - 1) / group_columns, first_group = first_column / group_columns;
    const auto n_tiles = static_cast<int>(
        std::min<int64_t>(product.n_tiles(), (product.n_rows - first_row + tile_rows - 1) / tile_rows));
    constexpr int64_t n_sums = group_columns * tile_rows; // of a group and a tile
    std::fill_n(scratch.sums, n_groups * n_tiles * n_sums, 0.0F);

    for (int64_t b = 0; b < columns.n_spans(); ++b) {
        const int64_t n_weights = std::min<int64_t>(span, columns.n_inputs - b * span);
        const auto n_sub = static_cast<int>(layout.form == Form::sixteens ? n_weights / 16 : n_weights / 32);
        const size_t at = static_cast<size_t>(b) * (span / layout.block_weights) * layout.block_bytes;
        for (int t = 0; t < n_tiles; ++t) {
            unpack(path, product, first_row + t * tile_rows, at, n_sub, scratch.tiles[t]);
        }
        Ahead ahead = ahead_of(product, piece, next_piece, b);
        const int n_ahead = ahead.n_rows;
        for (int64_t g = 0; g < n_groups; ++g) {
            ahead.n_rows = static_cast<int>(n_ahead * (g + 1) / n_groups - n_ahead * g / n_groups);
            const Columns & group = columns.to[b * columns.n_groups() + first_group + g];
            const auto n = static_cast<int>(std::min<int64_t>(group_columns, n_columns - g * group_columns));
            path.multiply[product.type](scratch.tiles, n_tiles, group, n_sub, n, scratch.sums + g * n_tiles * n_sums, ahead);
            ahead.next += static_cast<size_t>(ahead.n_rows) * ahead.stride;
        }
    }

    for (int64_t c = 0; c < n_columns; ++c) {
        uint8_t * const column = product.out + static_cast<size_t>(first_column + c) * product.out_stride;
        for (int t = 0; t < n_tiles; ++t) {
            const int64_t row = first_row + t * tile_rows;
            const float * const sums =
                scratch.sums + (c / group_columns * n_tiles + t) * n_sums + c % group_columns * tile_rows;
            std::memcpy(column + static_cast<size_t>(row) * sizeof(float), sums,
                        static_cast<size_t>(std::min<int64_t>(tile_rows, product.n_rows - row)) * sizeof(float));
        }
    }
}

} // namespace

void multiply_pieces(const Path & path, Product & product, Scratch & scratch) {
    const int64_t n = product.n_pieces();
    // The next piece is known in time to fetch its weights.
    int64_t piece = product.next.fetch_add(1, std::memory_order_relaxed);
    for (int64_t next; piece < n; piece = next) {
        next = product.next.fetch_add(1, std::memory_order_relaxed);
        multiply_piece(path, product, piece, next, scratch);
        product.n_done.fetch_add(1, std::memory_order_release);
    }
}

} // namespace kernels
