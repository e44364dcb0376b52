// The ceilings of a device, that every figure stands beside: given by the caller, or measured now. Ceilings are the best
// of several runs, not their median: what disturbs a run only lowers it.
#pragma once

#include "arithmetic.h"
#include "product.h"
#include "transfer.h"

#include <map>

namespace ceilings {

using quantization::Arithmetic;

struct Ceilings {
    double read_bytes_per_s = 0;
    std::map<Arithmetic, double> operations_per_s;
    std::string source;

    // bfloat16 falls back on float where the CPU has no instruction for it.
    double peak(Arithmetic arithmetic) const {
        const auto known = operations_per_s.find(arithmetic);
        const auto fma = operations_per_s.find(Arithmetic::fma_f32);
        return known != operations_per_s.end() ? known->second : fma != operations_per_s.end() ? fma->second : 0;
    }

    std::string json() const {
        bench::Fields fields = {{"read_gb_per_s", bench::number(read_bytes_per_s / 1e9)}};
        const std::map<Arithmetic, const char *> names = {{Arithmetic::fma_f32, "fma_f32_gflop_per_s"},
                                                          {Arithmetic::dot_bf16, "dot_bf16_gflop_per_s"},
                                                          {Arithmetic::dot_int8, "dot_int8_gflop_per_s"}};
        for (const auto & [arithmetic, value] : operations_per_s) {
            fields.emplace_back(names.at(arithmetic), bench::number(value / 1e9));
        }
        fields.emplace_back("source", bench::quoted(source));
        return bench::object(fields);
    }
};

// "read=23.5,fma_f32=230,dot_int8=900" in GB/s and GFLOP/s; what is left out is not known.
inline Ceilings given(const std::vector<std::string> & parts) {
    Ceilings found;
    found.source = "given by the caller";
    const std::map<std::string, Arithmetic> names = {
        {"fma_f32", Arithmetic::fma_f32}, {"dot_bf16", Arithmetic::dot_bf16}, {"dot_int8", Arithmetic::dot_int8}};
    for (const std::string & part : parts) {
        const std::vector<std::string> pair = bench::split(part, '=');
        if (pair.size() != 2 || (pair[0] != "read" && names.count(pair[0]) == 0)) {
            bench::wrong_call("--ceilings takes read=GB/s,fma_f32=GFLOP/s,dot_bf16=GFLOP/s,dot_int8=GFLOP/s, not '" +
                              part + "'");
        }
        const double value = bench::positive("--ceilings " + pair[0], pair[1]) * 1e9;
        if (pair[0] == "read") {
            found.read_bytes_per_s = value;
        } else {
            found.operations_per_s[names.at(pair[0])] = value;
        }
    }
    return found;
}

inline Ceilings measured_on_cpu(size_t n_threads) {
    Ceilings found;
    memory::Words words(bench::cold_bytes / sizeof(uint64_t), n_threads);
    found.read_bytes_per_s =
        static_cast<double>(words.n_bytes()) / bench::measure({30, 0.5}, 1, [&] { words.read(); }).min();
    found.source = "measured: reading 256 MiB";
    const std::map<std::string, Arithmetic> names = {
        {"fma_f32", Arithmetic::fma_f32}, {"dot_bf16", Arithmetic::dot_bf16}, {"dot_int8", Arithmetic::dot_int8}};
    for (const arithmetic::Kind & kind : arithmetic::kinds()) {
        const double seconds = bench::measure({30, 0.3}, 1, [&] { kind.run(n_threads); }).min();
        found.operations_per_s[names.at(kind.name)] = kind.n_operations * static_cast<double>(n_threads) / seconds;
        found.source += std::string(", ") + kind.instruction;
    }
    return found;
}

// A large product of f16 weights: how a GPU's peak is measured, for want of instructions of our own there.
struct LargeProduct {
    // So many in one run that a launch does not count.
    static size_t n_products(const device::Device & device) { return device.is_cpu() ? 1 : 8; }
    static constexpr size_t n_rows = 4096, n_columns = 4096, n_inputs = 2048;

    explicit LargeProduct(device::Device & device)
        : matrix(quantization::chosen({"f16"})[0], n_rows, n_columns), copies(matrix, device.memory(), n_products(device) * matrix.n_bytes()),
          product(device, matrix, copies, n_inputs, 1) {}

    bool allocated() const { return copies.allocated() && product.allocated(); }
    double n_operations() const { return product.n_operations() * static_cast<double>(product.n_per_run()); }

    quantization::Matrix matrix;
    product::Copies copies;
    product::Product product;
};

inline Ceilings measured_on_gpu(device::Device & device) {
    Ceilings found;
    transfer::Transfer transfer(device, bench::cold_bytes / sizeof(float));
    if (transfer.allocated()) {
        found.read_bytes_per_s = transfer.copy_bytes() / bench::measure({20, 0.5}, 1, [&] { transfer.copy(); }).min();
    }
    LargeProduct large(device);
    if (large.allocated()) { // what is known for f16 stands for all: ggml does not tell which units it uses
        const double seconds = bench::measure({20, 0.5}, 1, [&] { large.product.compute(); }).min();
        for (const Arithmetic arithmetic : {Arithmetic::fma_f32, Arithmetic::dot_bf16, Arithmetic::dot_int8}) {
            found.operations_per_s[arithmetic] = large.n_operations() / seconds;
        }
    }
    found.source = "measured: ggml copying 256 MiB, ggml's product of f16 4096 x 4096 with 2048 columns";
    return found;
}

inline Ceilings of(device::Device & device, size_t n_threads, const bench::Arguments & arguments) {
    const std::vector<std::string> parts = arguments.list("--ceilings", "");
    if (!parts.empty()) {
        return given(parts);
    }
    return device.is_cpu() ? measured_on_cpu(n_threads) : measured_on_gpu(device);
}

} // namespace ceilings
