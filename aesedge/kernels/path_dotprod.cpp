// NEON with dot products: 4 rows in a vector; sdot multiplies four weights by four values of one of four columns.
#include "path_neon.h"

#if defined(__aarch64__)

namespace kernels {
namespace {

struct Lanes : NeonLanes {
    static constexpr int n_tiles = 1, n_columns = group_columns;

    template <Type, int n_dwords, int T, int N>
    static void add_dots(Int (&all)[T][N], const uint8_t * const (&weights)[T], const int8_t (&columns)[4]) {
        static_assert(T == 1, "");
        const int8_t * const values = columns;
#pragma GCC unroll 8
        for (int k = 0; k < n_dwords; ++k) {
            const int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(weights[0] + 4 * tile_rows * k));
            const int8x16_t low = vld1q_s8(values + 4 * group_columns * k), high = vld1q_s8(values + 4 * group_columns * k + 16);
            add_columns<N>(all[0], w, low, high, std::make_integer_sequence<int, N>());
        }
    }

private:
    template <int N, int... c>
    static void add_columns(Int * dots, int8x16_t w, int8x16_t low, int8x16_t high, std::integer_sequence<int, c...>) {
        ((dots[c] = vdotq_laneq_s32(dots[c], w, c < 4 ? low : high, c % 4)), ...);
    }
};

bool runs_here() {
    return has_feature(20, AT_HWCAP, "hw.optional.arm.FEAT_DotProd");
}

} // namespace

const Path dotprod_path = neon_path<Lanes>("dotprod", runs_here);

} // namespace kernels
#endif
