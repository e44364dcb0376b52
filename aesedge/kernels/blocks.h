// The layouts that products read and write: GGUF's blocks of quantized weights, a tile of unpacked weights, and a group of
// quantized columns. Shared by all paths; plain data only, since each path is compiled with its own CPU flags.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kernels {

// Blocks as GGUF defines them (docs: github.com/ggml-org/ggml, docs/gguf.md). Scales are half floats.
struct BlockQ4K { // 8 sub-blocks of 32: weight = d * scale * q - dmin * min
    uint16_t d, dmin;
    uint8_t scales[12]; // 6 bits each, scales and minima
    uint8_t q[128];     // 64 weights in 32 bytes: the low nibbles, then the high ones
};
struct BlockQ5K { // the same, with a fifth bit for each weight
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t high[32];
    uint8_t q[128];
};
struct BlockQ6K { // 16 sub-blocks of 16: weight = d * scale * (q - 32)
    uint8_t low[128];
    uint8_t high[64];
    int8_t scales[16];
    uint16_t d;
};
struct BlockQ40 { // 32 weights: d * (q - 8)
    uint16_t d;
    uint8_t q[16]; // the low nibbles, then the high ones
};
struct BlockQ80 { // 32 weights: d * q
    uint16_t d;
    int8_t q[32];
};
static_assert(sizeof(BlockQ4K) == 144 && sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210, "as in GGUF files");
static_assert(sizeof(BlockQ40) == 18 && sizeof(BlockQ80) == 34, "as in GGUF files");

enum Type { q4_k, q5_k, q6_k, q4_0, q8_0, n_types };

// How the products of a sub-block are put together; see multiply.h.
enum class Form {
    minima,      // sub-blocks of 32 with a scale and a minimum each (q4_k, q5_k)
    sixteens,    // sub-blocks of 16 with a scale (q6_k)
    thirty_twos, // blocks of 32 with a scale, and columns that have one too (q4_0, q8_0)
};

struct Layout {
    Form form;
    size_t block_bytes, block_weights;
    int offset; // what unpacked weights are greater by than the weights; those of q8_0 are the path's choice
};
constexpr Layout layouts[n_types] = {
    {Form::minima, sizeof(BlockQ4K), 256, 0},     {Form::minima, sizeof(BlockQ5K), 256, 0},
    {Form::sixteens, sizeof(BlockQ6K), 256, 32},  {Form::thirty_twos, sizeof(BlockQ40), 32, 8},
    {Form::thirty_twos, sizeof(BlockQ80), 32, 0},
};

constexpr int span = 256;    // weights of a row that a tile holds: one block of a K-quant, up to eight blocks of the others
constexpr int tile_rows = 16; // one lane of the widest vectors each
constexpr int group_columns = 8;

// 16 rows of unpacked weights, in the order in which dot products of four bytes take them.
struct alignas(64) Tile {
    uint8_t q[span / 4][tile_rows][4];
    float scale[16][tile_rows];       // of each sub-block
    int16_t minimum[4][tile_rows][2]; // of two neighbouring sub-blocks
    float minus_dmin[tile_rows];
};

// 8 columns, quantized to 8 bits: with one scale for 256 values beside K-quants, with one for 32 beside the others.
struct alignas(64) Columns {
    int8_t q[span / 4][group_columns][4];
    int32_t start[16][group_columns]; // what sums of a sub-block begin with: -offset times the sum of its values
    int16_t pairs[4][group_columns][2]; // sums of 32 values, for the minima
    float d[8][group_columns];
};

// Rows of weights that are unpacked next, and are fetched from memory meanwhile.
struct Ahead {
    const uint8_t * next;
    size_t stride; // bytes from one row to the next
    int n_rows;    // left
    int n_at_once; // the multiplication's choice
};

} // namespace kernels
