// Attention at the depth of an image, as llama.cpp's graph has it: fused (ggml_flash_attn_ext) over keys and values in
// f16 or q8_0, and not fused (product, soft-max, product) over f16. The cache is padded to 256 positions, masked and
// cold, and queries are the last positions of it.

#include "ceilings.h"
#include "shapes.h"

namespace {

const char * const usage =
    "attention [--check] [--shapes NAME|FILE] [--only NAME] [--columns 1,...] [--depths 576,640] [--forms f16,q8_0,plain]\n"
    "          [--ceilings read=GB/s,fma_f32=GFLOP/s] [--device cpu|gpu|NAME] [--threads N] [--repetitions N] [--seconds S]\n"
    "  every form is checked first, then timed for at most S seconds; without --ceilings they are measured";

constexpr size_t padding = 256; // llama.cpp rounds up the part of the cache that a graph sees

// How attention is computed: the type of keys and values, fused or not. Values lie across in the cache if it is not.
struct Form {
    const char * name;
    const char * type;
    bool fused;
};

constexpr Form forms[] = {{"f16", "f16", true}, {"q8_0", "q8_0", true}, {"plain", "f16", false}};

std::vector<Form> chosen_forms(const std::vector<std::string> & names) {
    std::vector<Form> found;
    for (const std::string & name : names) {
        const auto * known = std::find_if(std::begin(forms), std::end(forms), [&](const Form & f) { return f.name == name; });
        if (known == std::end(forms)) {
            bench::wrong_call("--forms knows f16, q8_0 (both fused) and plain, not '" + name + "'");
        }
        found.push_back(*known);
    }
    return found;
}

// One form at one depth with so many queries.
class Attention {
public:
    Attention(device::Device & device, const shapes::Attention & shape, const Form & form, size_t depth, size_t n_queries,
              size_t cold_bytes)
        : shape_(shape), form_(form), depth_(depth), n_queries_(n_queries), n_kv_(GGML_PAD(depth, padding)),
          scale_(1 / std::sqrt(static_cast<float>(shape.width))), type_(quantization::chosen({form.type})[0]),
          keys_(type_, n_kv_, shape.width * shape.n_kv_heads, 4),
          values_(type_, form.fused ? n_kv_ : shape.width * shape.n_kv_heads,
                  form.fused ? shape.width * shape.n_kv_heads : n_kv_, 5),
          queries_(quantization::random_values(shape.width * shape.n_heads * n_queries, 6)),
          n_copies_(std::max<size_t>(1, cold_bytes / (keys_.n_bytes() + values_.n_bytes()))), room_(2 + 2 * n_copies_),
          q_(room_.tensor(GGML_TYPE_F32, {shape.width, shape.n_heads, n_queries})),
          mask_(room_.tensor(GGML_TYPE_F16, {n_kv_, n_queries})) {
        for (size_t i = 0; i < n_copies_; ++i) {
            k_.push_back(room_.tensor(type_.type, {keys_.n_columns, keys_.n_rows}));
            v_.push_back(room_.tensor(type_.type, {values_.n_columns, values_.n_rows}));
        }
        has_inputs_ = room_.allocate(device.memory());
        cycle_ = std::make_unique<device::Cycle>(device, n_copies_, std::min({n_queries, n_copies_, device::most_graphs}),
                                                 [&](ggml_context * c, size_t copy) { return result(c, copy); });
        if (has_inputs_) {
            fill();
        }
    }

    bool supported() const { return cycle_->supported(); }
    bool allocated() const { return has_inputs_ && cycle_->allocated(); }
    size_t n_per_run() const { return cycle_->n_per_graph(); }
    void compute() { cycle_->compute(); }

    // What must be read and computed for the positions up to the depth, the mask's triangle not subtracted.
    double n_bytes() const {
        return static_cast<double>(keys_.n_bytes() + values_.n_bytes()) * static_cast<double>(depth_) /
               static_cast<double>(n_kv_);
    }
    double n_operations() const {
        return 4.0 * static_cast<double>(shape_.width * shape_.n_heads) * static_cast<double>(n_queries_ * depth_);
    }

    // About sixteen queries of each of a few heads.
    bool check(const std::string & what) {
        cycle_->compute();
        const std::vector<float> all = cycle_->result(); // [queries, heads, width]
        quantization::Difference difference;
        for (size_t query = 0; query < n_queries_; query += std::max<size_t>(1, n_queries_ / 16)) {
            for (size_t head = query % 2; head < shape_.n_heads; head += std::max<size_t>(1, shape_.n_heads / 4)) {
                const std::vector<double> right = reference(query, head);
                for (size_t i = 0; i < shape_.width; ++i) {
                    difference.add(all[(query * shape_.n_heads + head) * shape_.width + i], right[i]);
                }
            }
        }
        return difference.within(5e-4, what);
    }

private:
    size_t n_seen(size_t query) const { return depth_ - n_queries_ + query + 1; }

    void fill() {
        device::upload(q_, queries_);
        std::vector<ggml_fp16_t> mask(n_kv_ * n_queries_, ggml_fp32_to_fp16(-INFINITY));
        for (size_t query = 0; query < n_queries_; ++query) {
            std::fill_n(mask.begin() + static_cast<ptrdiff_t>(query * n_kv_), n_seen(query), ggml_fp32_to_fp16(0));
        }
        device::upload(mask_, mask);
        const std::vector<uint8_t> keys = keys_.bytes(), values = values_.bytes();
        for (size_t i = 0; i < n_copies_; ++i) {
            device::upload(k_[i], keys);
            device::upload(v_[i], values);
        }
    }

    ggml_tensor * result(ggml_context * c, size_t copy) const {
        const auto width = static_cast<int64_t>(shape_.width), n_kv_heads = static_cast<int64_t>(shape_.n_kv_heads);
        const auto n_kv = static_cast<int64_t>(n_kv_);
        ggml_tensor * q = ggml_permute(c, q_, 0, 2, 1, 3);
        ggml_tensor * k = ggml_permute(c, ggml_reshape_3d(c, k_[copy], width, n_kv_heads, n_kv), 0, 2, 1, 3);
        if (form_.fused) {
            ggml_tensor * v = ggml_permute(c, ggml_reshape_3d(c, v_[copy], width, n_kv_heads, n_kv), 0, 2, 1, 3);
            ggml_tensor * fused = ggml_flash_attn_ext(c, q, k, v, mask_, scale_, 0, 0);
            ggml_prec_set_acc(fused, GGML_PREC_F32);
            return fused;
        }
        ggml_tensor * products = ggml_mul_mat(c, k, q);
        ggml_prec_set_acc(products, GGML_PREC_F32);
        ggml_tensor * shares = ggml_soft_max_ext(c, products, mask_, scale_, 0);
        ggml_tensor * v = ggml_reshape_3d(c, v_[copy], n_kv, width, n_kv_heads);
        return ggml_cont(c, ggml_permute(c, ggml_mul_mat(c, v, shares), 0, 2, 1, 3));
    }

    double value(size_t position, size_t channel) const {
        return form_.fused ? values_.row(position)[channel] : values_.row(channel)[position];
    }

    std::vector<double> reference(size_t query, size_t head) const {
        const size_t offset = head / (shape_.n_heads / shape_.n_kv_heads) * shape_.width;
        const float * q = &queries_[(query * shape_.n_heads + head) * shape_.width];
        std::vector<double> shares(n_seen(query));
        double largest = -INFINITY, sum = 0;
        for (size_t i = 0; i < shares.size(); ++i) {
            for (size_t j = 0; j < shape_.width; ++j) {
                shares[i] += static_cast<double>(q[j]) * static_cast<double>(keys_.row(i)[offset + j]);
            }
            largest = std::max(largest, shares[i]);
        }
        std::vector<double> result(shape_.width);
        for (size_t i = 0; i < shares.size(); ++i) {
            shares[i] = std::exp((shares[i] - largest) * static_cast<double>(scale_));
            sum += shares[i];
        }
        for (size_t i = 0; i < shares.size(); ++i) {
            for (size_t j = 0; j < shape_.width; ++j) {
                result[j] += shares[i] / sum * value(i, offset + j);
            }
        }
        return result;
    }

    const shapes::Attention & shape_;
    Form form_;
    size_t depth_, n_queries_, n_kv_;
    float scale_;
    quantization::Type type_;
    quantization::Matrix keys_, values_;
    std::vector<float> queries_;
    size_t n_copies_;
    device::Room room_;
    ggml_tensor *q_, *mask_;
    std::vector<ggml_tensor *> k_, v_;
    bool has_inputs_ = false;
    std::unique_ptr<device::Cycle> cycle_;
};

struct Choice {
    std::vector<Form> forms;
    std::vector<size_t> depths, columns;
};

// Calls visit for everything chosen, skip for what there is not; false as soon as visit does.
template <typename Visit, typename Skip>
bool for_each_attention(device::Device & device, const std::vector<shapes::Attention> & all, const Choice & choice,
                        size_t cold_bytes, Visit && visit, Skip && skip) {
    for (const shapes::Attention & shape : all) {
        for (const Form & form : choice.forms) {
            for (const size_t depth : choice.depths) {
                for (const size_t n_queries : choice.columns) {
                    const std::string what = std::string(form.name) + " " + shape.name + ", depth " + std::to_string(depth) +
                                             ", " + std::to_string(n_queries) + " columns";
                    if (n_queries > depth) {
                        skip(what + ": more columns than positions");
                        continue;
                    }
                    Attention attention(device, shape, form, depth, n_queries, cold_bytes);
                    if (!attention.supported()) {
                        skip(what + ": no kernel on " + device.name());
                    } else if (!attention.allocated()) {
                        skip(what + ": no room on " + device.name());
                    } else if (!attention.check(what) || !visit(shape, form, depth, n_queries, attention)) {
                        return false;
                    }
                }
            }
        }
    }
    return true;
}

bool check_all(device::Device & device, const std::vector<shapes::Attention> & all, const Choice & choice) {
    size_t n = 0;
    const auto count = [&](const auto &, const auto &, size_t, size_t, auto &) { return ++n > 0; };
    const bool right =
        for_each_attention(device, all, choice, 1, count, [](const std::string & what) { std::puts(what.c_str()); });
    if (right) {
        std::printf("%zu attentions on %s are those of the scalar reference\n", n, device.description().c_str());
    }
    return right && n > 0;
}

bool measure_all(device::Device & device, const shapes::Shapes & shapes, const std::vector<shapes::Attention> & all,
                 const Choice & choice, size_t n_threads, const bench::Effort & effort, const bench::Arguments & arguments) {
    const ceilings::Ceilings ceilings = ceilings::of(device, n_threads, arguments);
    bench::Fields head = device.head(n_threads, "writing the cache, transfer; the mask's triangle is not subtracted");
    head.emplace_back("shapes", bench::quoted(shapes.name));
    head.emplace_back("ceilings", ceilings.json());
    bench::Report report("attention", head, {{"name", 10}, {"type", 8}, {"columns", 7}, {"depth", 6}});
    const auto visit = [&](const auto & shape, const auto & form, size_t depth, size_t n_queries, auto & attention) {
        const bench::Work work{attention.n_bytes(), attention.n_operations(), ceilings.read_bytes_per_s,
                               ceilings.peak(quantization::Arithmetic::fma_f32)};
        report.row({shape.name, form.name, std::to_string(n_queries), std::to_string(depth)}, work,
                   bench::measure(effort, attention.n_per_run(), [&] { attention.compute(); }),
                   {{"fused", form.fused ? "true" : "false"}, {"count", std::to_string(shape.count)}});
        return true;
    };
    const bool right = for_each_attention(device, all, choice, bench::cold_bytes, visit,
                                          [&](const std::string & what) { report.skipped(what); });
    report.finish();
    return right;
}

} // namespace

int main(int argc, char ** argv) {
    const bench::Arguments arguments(argc, argv, usage);
    const bool check_only = arguments.flag("--check");
    const size_t n_threads = arguments.count("--threads", std::max(1U, std::thread::hardware_concurrency()));
    const bench::Effort effort{arguments.count("--repetitions", 20), arguments.number("--seconds", "0.5")};
    const Choice choice{chosen_forms(arguments.list("--forms", "f16,q8_0,plain")),
                        arguments.counts("--depths", check_only ? "70,256" : "576,640"),
                        arguments.counts("--columns", check_only ? "1,5,33" : "1,16,64,144,576")};
    const shapes::Shapes shapes = shapes::read(arguments.text("--shapes", check_only ? "check" : "llava-1.5-7b"));
    const auto all = shapes::chosen(shapes.attentions, arguments.text("--only", ""), "attention");
    device::Device device(arguments.text("--device", "cpu"), n_threads);
    const bool right = check_only ? check_all(device, all, choice)
                                  : measure_all(device, shapes, all, choice, n_threads, effort, arguments);
    return right ? 0 : 1;
}
