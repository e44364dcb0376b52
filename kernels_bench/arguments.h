// The command line of a micro-benchmark: values and flags by name. Whatever it does not know ends the program with 2.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

namespace bench {

// Says what is wrong with the call and ends with the code that stands for it everywhere in aesedge.
[[noreturn]] inline void wrong_call(const std::string & message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(2);
}

inline std::vector<std::string> split(const std::string & text, char separator) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) {
        if (!part.empty()) {
            parts.push_back(part);
        }
    }
    return parts;
}

inline std::string joined(const std::vector<std::string> & parts) {
    std::string text;
    for (const std::string & part : parts) {
        text += (text.empty() ? "" : ", ") + part;
    }
    return text;
}

// A number above zero; anything else ends the program.
inline double positive(const std::string & name, const std::string & text) {
    char * end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value > 0) || value > 1e18) {
        wrong_call(name + " takes a number above 0, not '" + text + "'");
    }
    return value;
}

inline size_t whole(const std::string & name, const std::string & text) {
    if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos ||
        std::atol(text.c_str()) < 1) {
        wrong_call(name + " takes a whole number of at least 1, not '" + text + "'");
    }
    return static_cast<size_t>(std::atol(text.c_str()));
}

class Arguments {
public:
    // usage names every option and flag there is: it is what --help prints and what the call is held against.
    Arguments(int argc, char ** argv, const std::string & usage) {
        for (int i = 1; i < argc; ++i) {
            const std::string name = argv[i];
            if (name == "--help") {
                std::printf("%s\n", usage.c_str());
                std::exit(0);
            }
            // An option stands in the usage as "[--name VALUE", a flag as "[--name]".
            if (usage.find("[" + name + "]") != std::string::npos) {
                flags_.push_back(name);
            } else if (name.rfind("--", 0) == 0 && usage.find("[" + name + " ") != std::string::npos) {
                if (++i == argc) {
                    wrong_call(name + " takes a value");
                }
                values_.emplace_back(name, argv[i]);
            } else {
                wrong_call("unknown option '" + name + "'; there is: " + usage);
            }
        }
    }

    bool flag(const std::string & name) const { return std::count(flags_.begin(), flags_.end(), name) > 0; }

    std::string text(const std::string & name, const std::string & fallback) const {
        for (const auto & [given, value] : values_) {
            if (given == name) {
                return value;
            }
        }
        return fallback;
    }

    std::vector<std::string> list(const std::string & name, const std::string & fallback) const {
        return split(text(name, fallback), ',');
    }

    size_t count(const std::string & name, size_t fallback) const {
        return whole(name, text(name, std::to_string(fallback)));
    }

    std::vector<size_t> counts(const std::string & name, const std::string & fallback) const {
        std::vector<size_t> numbers;
        for (const std::string & part : list(name, fallback)) {
            numbers.push_back(whole(name, part));
        }
        return numbers;
    }

    double number(const std::string & name, const std::string & fallback) const {
        return positive(name, text(name, fallback));
    }

private:
    std::vector<std::string> flags_;
    std::vector<std::pair<std::string, std::string>> values_;
};

} // namespace bench
