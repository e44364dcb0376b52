// Compares every path that this CPU runs with the scalar one, bit by bit, and with a product in double of the same blocks
// and columns, each unpacked by its definition. Needs no ggml, so that it can be built with sanitizers and for other
// processors. Prints the paths that ran.
#include "product.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace kernels;

namespace {

std::mt19937 generator(7);

double half(const uint8_t * at) {
    uint16_t bits;
    std::memcpy(&bits, at, 2);
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 != 0 ? -value : value;
}

// The weights of one block, by GGUF's definition, one at a time.
void dequantize(Type type, const uint8_t * block, double * to) {
    if (type == q4_0 || type == q8_0) {
        for (int k = 0; k < 32; ++k) {
            const int nibble = block[2 + k % 16] >> (k < 16 ? 0 : 4) & 15;
            to[k] = half(block) * (type == q4_0 ? nibble - 8 : static_cast<int8_t>(block[2 + k]));
        }
        return;
    }
    for (int k = 0; k < 256; ++k) {
        if (type == q6_k) {
            const int part = k / 128, i = k % 128, low = block[64 * part + i % 64] >> (i < 64 ? 0 : 4) & 15;
            const int high = block[128 + 32 * part + i % 32] >> (2 * (i / 32)) & 3;
            to[k] = half(block + 208) * static_cast<int8_t>(block[192 + k / 16]) * ((low | high << 4) - 32);
            continue;
        }
        const int j = k / 32;
        const uint8_t * const s = block + 4;
        const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        const int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
        int q = block[(type == q4_k ? 16 : 48) + 32 * (k / 64) + k % 32] >> (k / 32 % 2 * 4) & 15;
        if (type == q5_k) {
            q |= (block[16 + k % 32] >> j & 1) << 4;
        }
        to[k] = half(block) * scale * q - half(block + 2) * minimum;
    }
}

struct Case {
    Type type;
    int64_t n_rows, n_inputs, n_columns;
};

struct Data {
    std::vector<uint8_t> weights; // exactly as many bytes as there are, so that a sanitizer sees what is read beyond
    std::vector<float> x;
    size_t stride;

    explicit Data(const Case & c) : x(static_cast<size_t>(c.n_inputs * c.n_columns)) {
        const Layout & layout = layouts[c.type];
        stride = static_cast<size_t>(c.n_inputs) / layout.block_weights * layout.block_bytes;
        weights.resize(static_cast<size_t>(c.n_rows) * stride);
        std::generate(weights.begin(), weights.end(), [] { return static_cast<uint8_t>(generator()); });
        for (size_t at = 0; at < weights.size(); at += layout.block_bytes) { // scales of every kind, but finite
            for (size_t i : {c.type == q6_k ? size_t{208} : size_t{0}, size_t{2}}) {
                if (i == 0 || i == 208 || c.type == q4_k || c.type == q5_k) {
                    weights[at + i + 1] = static_cast<uint8_t>(weights[at + i + 1] & 0xBF);
                }
            }
        }
        for (float & value : x) {
            value = static_cast<float>(static_cast<int>(generator() % 4001) - 2000) / 1000;
        }
        for (int64_t i = 0; i < std::min<int64_t>(c.n_inputs, 300); ++i) { // zeros, and a large value
            x[static_cast<size_t>(i)] = i == 17 ? 1000.0F : 0.0F;
        }
    }
};

std::vector<float> product(const Path & path, const Case & c, const Data & data, int n_threads) {
    std::vector<float> out(static_cast<size_t>(c.n_rows * c.n_columns), -1.0F);
    Quantized columns{};
    columns.form = layouts[c.type].form;
    columns.offset = c.type == q8_0 ? path.q8_0_offset : layouts[c.type].offset;
    columns.x = reinterpret_cast<const uint8_t *>(data.x.data());
    columns.x_stride = static_cast<size_t>(c.n_inputs) * sizeof(float);
    columns.n_inputs = c.n_inputs;
    columns.n_columns = c.n_columns;
    const auto n_blocks = static_cast<size_t>(columns.n_spans() * columns.n_groups());
    columns.to = new Columns[n_blocks];
    Product product{};
    product.type = c.type;
    product.weights = data.weights.data();
    product.weights_stride = data.stride;
    product.n_rows = c.n_rows;
    product.out = reinterpret_cast<uint8_t *>(out.data());
    product.out_stride = static_cast<size_t>(c.n_rows) * sizeof(float);
    product.columns = &columns;
    quantize_columns(path, columns);
    std::vector<std::thread> threads;
    for (int i = 0; i < n_threads; ++i) {
        threads.emplace_back([&] {
            const auto scratch = std::make_unique<Scratch>();
            multiply_pieces(path, product, *scratch);
        });
    }
    for (std::thread & thread : threads) {
        thread.join();
    }
    delete[] columns.to;
    return out;
}

// A column as it is after quantization to 8 bits, one value at a time.
std::vector<double> quantized(const Case & c, const Data & data, int64_t column) {
    std::vector<double> values(static_cast<size_t>(c.n_inputs));
    const size_t n = layouts[c.type].block_weights;
    const float * const x = &data.x[static_cast<size_t>(column * c.n_inputs)];
    for (size_t first = 0; first < values.size(); first += n) {
        float most = 0;
        for (size_t k = first; k < first + n; ++k) {
            most = std::max(most, std::fabs(x[k]));
        }
        const float factor = most > 0 ? 127.0F / most : 0;
        double d = most > 0 ? 1 / factor : 0;
        if (n == 32 && most > 0) { // to the 11 bits of a half
            const double unit = std::ldexp(1, std::max(std::ilogb(most / 127.0F), -14) - 10);
            d = std::nearbyint(static_cast<double>(most / 127.0F) / unit) * unit;
        }
        for (size_t k = first; k < first + n; ++k) {
            values[k] = d * static_cast<double>(std::nearbyint(x[k] * factor));
        }
    }
    return values;
}

// Sum of squared errors relative to the sum of squares.
double error(const Case & c, const Data & data, const std::vector<float> & out) {
    const Layout & layout = layouts[c.type];
    double errors = 0, squares = 0;
    std::vector<double> row(static_cast<size_t>(c.n_inputs));
    std::vector<std::vector<double>> columns;
    for (int64_t n = 0; n < c.n_columns; ++n) {
        columns.push_back(quantized(c, data, n));
    }
    for (int64_t r = 0; r < c.n_rows; ++r) {
        for (size_t k = 0; k < row.size(); k += layout.block_weights) {
            dequantize(c.type, &data.weights[static_cast<size_t>(r) * data.stride + k / layout.block_weights * layout.block_bytes],
                       &row[k]);
        }
        for (int64_t n = 0; n < c.n_columns; ++n) {
            double sum = 0;
            for (size_t k = 0; k < row.size(); ++k) {
                sum += row[k] * columns[static_cast<size_t>(n)][k];
            }
            const double difference = static_cast<double>(out[static_cast<size_t>(n * c.n_rows + r)]) - sum;
            errors += difference * difference;
            squares += sum * sum;
        }
    }
    return squares > 0 ? errors / squares : errors;
}

int check(const Path & path) {
    static const char * const names[] = {"q4_k", "q5_k", "q6_k", "q4_0", "q8_0"};
    int n_wrong = 0;
    for (int type = 0; type < n_types; ++type) {
        const bool is_k = layouts[type].block_weights == 256;
        for (const int64_t n_rows : {1, 17, 67}) {
            for (const int64_t n_inputs : {is_k ? 256 : 32, is_k ? 768 : 544}) {
                for (const int64_t n_columns : {2, 3, 4, 5, 6, 7, 9, 16, 100}) {
                    const Case c{static_cast<Type>(type), n_rows, n_inputs, n_columns};
                    const Data data(c);
                    const std::vector<float> out = product(path, c, data, n_columns % 2 == 0 ? 1 : 3);
                    const std::vector<float> expected = product(scalar_path, c, data, 1);
                    const double wrong = error(c, data, out);
                    if (std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)) != 0 || !(wrong < 1e-11)) {
                        std::printf("%s %s: %d rows, %d inputs, %d columns: error %g\n", path.name, names[type],
                                    static_cast<int>(n_rows), static_cast<int>(n_inputs), static_cast<int>(n_columns), wrong);
                        ++n_wrong;
                    }
                }
            }
        }
    }
    return n_wrong;
}

// What a column gives does not depend on the columns beside it.
int check_columns(const Path & path) {
    const Case all{q4_k, 40, 512, 1100}; // in two panels
    const Data data(all);
    const std::vector<float> together = product(path, all, data, 2);
    for (const int64_t first : {0, 3, 511, 560, 1098}) {
        Case two = all;
        two.n_columns = 2;
        Data part(data);
        part.x.assign(data.x.begin() + first * all.n_inputs, data.x.begin() + (first + 2) * all.n_inputs);
        const std::vector<float> alone = product(path, two, part, 1);
        if (std::memcmp(alone.data(), &together[static_cast<size_t>(first * all.n_rows)], alone.size() * sizeof(float)) != 0) {
            std::printf("%s: columns %d and the next differ alone\n", path.name, static_cast<int>(first));
            return 1;
        }
    }
    return 0;
}

// What is no number, or infinite, does not become one.
int check_infinite(const Path & path) {
    int n_wrong = 0;
    for (const Type type : {q6_k, q8_0}) {
        for (const float value : {std::nanf(""), -INFINITY}) {
            const Case c{type, 16, 256, 2};
            Data data(c);
            data.x[256 + 31] = value;
            const std::vector<float> out = product(path, c, data, 1);
            if (!std::isfinite(out[3]) || std::isfinite(out[16 + 3])) {
                std::printf("%s: %g becomes a number\n", path.name, static_cast<double>(value));
                ++n_wrong;
            }
        }
    }
    return n_wrong;
}

} // namespace

int main() {
    int n_wrong = 0;
    for (const Path * const * path = all_paths(); *path != nullptr; ++path) {
        if ((*path)->runs_here()) {
            const int n = check(**path) + check_columns(**path) + check_infinite(**path);
            std::printf("%s: %s\n", (*path)->name, n == 0 ? "right" : "wrong");
            n_wrong += n;
        } else {
            std::printf("%s: not on this CPU\n", (*path)->name);
        }
    }
    return n_wrong == 0 ? 0 : 1;
}
