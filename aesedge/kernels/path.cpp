// Which paths there are, and which of them this CPU runs. HAS_PATH_*: the compiler knew the instructions.
#include "path.h"

#include <cstdlib>
#include <cstring>

namespace kernels {

const Path * const * all_paths() {
    static const Path * const paths[] = {
#ifdef HAS_PATH_AVX512
        &avx512_path,
#endif
#ifdef HAS_PATH_AVX_VNNI
        &avx_vnni_path,
#endif
#ifdef HAS_PATH_AVX2
        &avx2_path,
#endif
#ifdef HAS_PATH_I8MM
        &i8mm_path,
#endif
#ifdef HAS_PATH_DOTPROD
        &dotprod_path,
#endif
        &scalar_path, nullptr};
    return paths;
}

const Path * best_path() {
    const char * const wanted = std::getenv("AESEDGE_KERNELS_PATH");
    for (const Path * const * path = all_paths(); *path != nullptr; ++path) {
        const bool is_wanted = wanted != nullptr && *wanted != '\0' ? std::strcmp((*path)->name, wanted) == 0 : *path != &scalar_path;
        if (is_wanted && (*path)->runs_here()) {
            return *path;
        }
    }
    return nullptr;
}

} // namespace kernels
