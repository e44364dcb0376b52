// The lines of a file of shapes (shapes/llava-1.5-7b.txt says how they are written). Knows nothing of kernels.
#pragma once

#include "arguments.h"

#include <fstream>
#include <map>

namespace shapes {

struct Product {
    std::string name;
    size_t n_rows, n_columns, count;
};

struct Attention {
    std::string name;
    size_t n_heads, n_kv_heads, width, count;
};

struct Shapes {
    std::string name; // of the model
    std::vector<Product> products;
    std::vector<Attention> attentions;
};

// Reads a file; "llava-1.5-7b" stands for shapes/llava-1.5-7b.txt beside the sources. A file that is not as it must be
// ends the program with its line.
inline Shapes read(const std::string & name_or_path) {
    const bool is_path = name_or_path.find_first_of("/\\") != std::string::npos ||
                         (name_or_path.size() > 4 && name_or_path.substr(name_or_path.size() - 4) == ".txt");
    const std::string path = is_path ? name_or_path : std::string(AESEDGE_SHAPES) + "/" + name_or_path + ".txt";
    std::ifstream file(path);
    if (!file) {
        bench::wrong_call("no file of shapes " + path);
    }
    const std::map<std::string, size_t> n_numbers = {{"language", 3}, {"attention", 4}, {"vision", 4}};
    Shapes shapes;
    shapes.name = path.substr(path.find_last_of("/\\") + 1);
    shapes.name = shapes.name.substr(0, shapes.name.rfind('.'));
    std::string line;
    for (size_t n_line = 1; std::getline(file, line); ++n_line) {
        std::replace(line.begin(), line.end(), '\t', ' ');
        std::replace(line.begin(), line.end(), '\r', ' ');
        const std::vector<std::string> words = bench::split(line.substr(0, line.find('#')), ' ');
        if (words.empty()) {
            continue;
        }
        const std::string where = path + ":" + std::to_string(n_line);
        const auto known = n_numbers.find(words[0]);
        if (known == n_numbers.end() || words.size() != 2 + known->second) {
            bench::wrong_call(where + ": a line is 'language NAME' and 3 numbers, 'attention NAME' and 4 or "
                                      "'vision NAME' and 4");
        }
        std::vector<size_t> numbers;
        for (size_t i = 2; i < words.size(); ++i) {
            numbers.push_back(bench::whole(where, words[i]));
            if (numbers.back() > size_t{1} << 24) {
                bench::wrong_call(where + ": " + words[i] + " is beyond any model");
            }
        }
        if (words[0] == "language") {
            shapes.products.push_back({words[1], numbers[0], numbers[1], numbers[2]});
        } else if (words[0] == "attention") {
            if (numbers[0] % numbers[1] != 0) {
                bench::wrong_call(where + ": heads are no multiple of KV heads");
            }
            shapes.attentions.push_back({words[1], numbers[0], numbers[1], numbers[2], numbers[3]});
        }
    }
    return shapes;
}

// Those of one name, or all if the name is empty; none ends the program.
template <typename Shape>
std::vector<Shape> chosen(const std::vector<Shape> & all, const std::string & only, const std::string & kind) {
    std::vector<Shape> found;
    std::vector<std::string> names;
    for (const Shape & shape : all) {
        names.push_back(shape.name);
        if (only.empty() || shape.name == only) {
            found.push_back(shape);
        }
    }
    if (found.empty()) {
        bench::wrong_call(only.empty() ? "the file of shapes has no line '" + kind + "'"
                                       : "--only knows " + bench::joined(names) + ", not '" + only + "'");
    }
    return found;
}

} // namespace shapes
