// NEON with 8-bit matrix products: smmla multiplies eight weights of two rows by eight values of two columns.
#include "path_neon.h"

#if defined(__aarch64__)

namespace kernels {
namespace {

struct Lanes : NeonLanes {
    static constexpr int n_tiles = 1, n_columns = group_columns;

    template <Type, int n_dwords, int T, int N>
    static void add_dots(Int (&all)[T][N], const uint8_t * const (&weights)[T], const int8_t (&columns)[4]) {
        static_assert(T == 1 && n_dwords % 2 == 0, "");
        constexpr int n_pairs = (N + 1) / 2;
        const int8_t * const values = columns;
        Int first_rows[n_pairs], last_rows[n_pairs]; // of two rows, beside two columns each
        for (int p = 0; p < n_pairs; ++p) {
            first_rows[p] = last_rows[p] = zero_int();
        }
#pragma GCC unroll 4
        for (int k = 0; k < n_dwords; k += 2) {
            const auto rows = zip(vreinterpretq_s8_u8(vld1q_u8(weights[0] + 4 * tile_rows * k)),
                                  vreinterpretq_s8_u8(vld1q_u8(weights[0] + 4 * tile_rows * (k + 1))));
#pragma GCC unroll 4
            for (int p = 0; p < n_pairs; ++p) {
                const int8_t * const four = values + 4 * group_columns * k + 16 * (p / 2);
                const int8x16x2_t both = zip(vld1q_s8(four), vld1q_s8(four + 4 * group_columns));
                first_rows[p] = vmmlaq_s32(first_rows[p], rows.val[0], both.val[p % 2]);
                last_rows[p] = vmmlaq_s32(last_rows[p], rows.val[1], both.val[p % 2]);
            }
        }
        for (int p = 0; p < n_pairs; ++p) {
            all[0][2 * p] = vaddq_s32(all[0][2 * p], vuzp1q_s32(first_rows[p], last_rows[p]));
            if (2 * p + 1 < N) {
                all[0][2 * p + 1] = vaddq_s32(all[0][2 * p + 1], vuzp2q_s32(first_rows[p], last_rows[p]));
            }
        }
    }

private:
    // Four words of each become eight bytes of one row or column after the other.
    static int8x16x2_t zip(int8x16_t a, int8x16_t b) {
        const int32x4_t first = vreinterpretq_s32_s8(a), second = vreinterpretq_s32_s8(b);
        return {{vreinterpretq_s8_s32(vzip1q_s32(first, second)), vreinterpretq_s8_s32(vzip2q_s32(first, second))}};
    }
};

bool runs_here() {
#if defined(__APPLE__)
    constexpr unsigned long type = 0;
#else
    constexpr unsigned long type = AT_HWCAP2;
#endif
    return has_feature(13, type, "hw.optional.arm.FEAT_I8MM");
}

} // namespace

const Path i8mm_path = neon_path<Lanes>("i8mm", runs_here);

} // namespace kernels
#endif
