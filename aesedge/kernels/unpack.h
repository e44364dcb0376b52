// Unpacking 16 rows of quantized weights into a tile, written once for all vector widths. `R` is a path's 16 words of 32
// bits, one for each row; loading transposes.
#pragma once

#include "blocks.h"

#include <cstddef>

namespace kernels {

// Scale and minimum of the eight sub-blocks from the first 16 bytes of a q4_k or q5_k block.
template <class R> static inline void unpack_scales(const uint8_t * rows, size_t stride, Tile & tile) {
    R head[4];
    R::template load<4>(rows, stride, head);
    const R scales[2] = {head[1] & 0x3F3F3F3F, (head[3] & 0x0F0F0F0F) | ((head[1] >> 2) & 0x30303030)};
    const R minima[2] = {head[2] & 0x3F3F3F3F, ((head[3] >> 4) & 0x0F0F0F0F) | ((head[2] >> 2) & 0x30303030)};
    const typename R::Float d = head[0].low_halves();
    head[0].high_halves().negated().store(tile.minus_dmin);
    for (int i = 0; i < 2; ++i) { // a byte each of four sub-blocks
        ((scales[i] & 0xFF).to_float() * d).store(tile.scale[4 * i]);
        (((scales[i] >> 8) & 0xFF).to_float() * d).store(tile.scale[4 * i + 1]);
        (((scales[i] >> 16) & 0xFF).to_float() * d).store(tile.scale[4 * i + 2]);
        ((scales[i] >> 24).to_float() * d).store(tile.scale[4 * i + 3]);
        ((minima[i] & 0xFF) | ((minima[i] << 8) & 0xFF0000)).store(tile.minimum[2 * i]);
        (((minima[i] >> 16) & 0xFF) | ((minima[i] >> 8) & 0xFF0000)).store(tile.minimum[2 * i + 1]);
    }
}

template <class R> static void unpack_q4_k(const uint8_t * rows, size_t stride, int, Tile & tile) {
    unpack_scales<R>(rows, stride, tile);
    for (int i = 0; i < 4; ++i) {
        R packed[8];
        R::template load<8>(rows + offsetof(BlockQ4K, q) + 32 * i, stride, packed);
        for (int k = 0; k < 8; ++k) {
            (packed[k] & 0x0F0F0F0F).store(tile.q[16 * i + k]);
            ((packed[k] >> 4) & 0x0F0F0F0F).store(tile.q[16 * i + 8 + k]);
        }
    }
}

template <class R> static void unpack_q5_k(const uint8_t * rows, size_t stride, int, Tile & tile) {
    unpack_scales<R>(rows, stride, tile);
    R high[8]; // bit j of each byte belongs to sub-block j
    R::template load<8>(rows + offsetof(BlockQ5K, high), stride, high);
    for (int i = 0; i < 4; ++i) {
        R packed[8];
        R::template load<8>(rows + offsetof(BlockQ5K, q) + 32 * i, stride, packed);
        for (int k = 0; k < 8; ++k) {
            ((packed[k] & 0x0F0F0F0F) | ((high[k] << 4) & 0x10101010)).store(tile.q[16 * i + k]);
            (((packed[k] >> 4) & 0x0F0F0F0F) | ((high[k] << 3) & 0x10101010)).store(tile.q[16 * i + 8 + k]);
            high[k] = high[k] >> 2;
        }
    }
}

template <class R> static void unpack_q6_k(const uint8_t * rows, size_t stride, int, Tile & tile) {
    const typename R::Float d = R::halves(rows + offsetof(BlockQ6K, d), stride);
    R scales[4];
    R::template load<4>(rows + offsetof(BlockQ6K, scales), stride, scales);
    for (int i = 0; i < 4; ++i) { // signed bytes
        ((scales[i] << 24).shift_signed().to_float() * d).store(tile.scale[4 * i]);
        ((scales[i] << 16).shift_signed().to_float() * d).store(tile.scale[4 * i + 1]);
        ((scales[i] << 8).shift_signed().to_float() * d).store(tile.scale[4 * i + 2]);
        (scales[i].shift_signed().to_float() * d).store(tile.scale[4 * i + 3]);
    }
    for (int i = 0; i < 2; ++i) { // 128 weights each
        R low[2][8], high[8];
        R::template load<8>(rows + offsetof(BlockQ6K, low) + 64 * i, stride, low[0]);
        R::template load<8>(rows + offsetof(BlockQ6K, low) + 64 * i + 32, stride, low[1]);
        R::template load<8>(rows + offsetof(BlockQ6K, high) + 32 * i, stride, high);
        for (int k = 0; k < 8; ++k) {
            ((low[0][k] & 0x0F0F0F0F) | ((high[k] << 4) & 0x30303030)).store(tile.q[32 * i + k]);
            ((low[1][k] & 0x0F0F0F0F) | ((high[k] << 2) & 0x30303030)).store(tile.q[32 * i + 8 + k]);
            (((low[0][k] >> 4) & 0x0F0F0F0F) | (high[k] & 0x30303030)).store(tile.q[32 * i + 16 + k]);
            (((low[1][k] >> 4) & 0x0F0F0F0F) | ((high[k] >> 2) & 0x30303030)).store(tile.q[32 * i + 24 + k]);
        }
    }
}

template <class R> static void unpack_q4_0(const uint8_t * rows, size_t stride, int n_sub, Tile & tile) {
    for (int j = 0; j < n_sub; ++j, rows += sizeof(BlockQ40)) {
        R::halves(rows, stride).store(tile.scale[j]);
        R packed[4];
        R::template load<4>(rows + offsetof(BlockQ40, q), stride, packed);
        for (int k = 0; k < 4; ++k) {
            (packed[k] & 0x0F0F0F0F).store(tile.q[8 * j + k]);
            ((packed[k] >> 4) & 0x0F0F0F0F).store(tile.q[8 * j + 4 + k]);
        }
    }
}

// Unsigned weights are greater by 128, which flips their highest bit.
template <class R, bool is_unsigned> static void unpack_q8_0(const uint8_t * rows, size_t stride, int n_sub, Tile & tile) {
    for (int j = 0; j < n_sub; ++j, rows += sizeof(BlockQ80)) {
        R::halves(rows, stride).store(tile.scale[j]);
        R weights[8];
        R::template load<8>(rows + offsetof(BlockQ80, q), stride, weights);
        for (int k = 0; k < 8; ++k) {
            (is_unsigned ? weights[k] ^ 0x80808080 : weights[k]).store(tile.q[8 * j + k]);
        }
    }
}

} // namespace kernels
