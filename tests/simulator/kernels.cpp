/* The entry points for kernels: families, functions, launches. */
#include "entries.h"
#include <algorithm>
#include <dlfcn.h>
#include <map>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

using namespace sim;

namespace {
struct family {
    void *library;
    std::map<std::string, std::unique_ptr<function>> functions;
};
std::set<family *> modules;
std::set<const void *> functions;
} // namespace

void sim::launch_record::poison_shared() const {
    if (target->shared_start) memset(target->shared_start, 0xff, size_t(target->shared_stop - target->shared_start));
    if (shared) memset(dynamic_shared, 0xff, shared);
}

EXPORT cuModuleLoadData(family **made, const void *image) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    static const char magic[] = "FXSIM\n";
    if (memcmp(image, magic, sizeof magic - 1)) return 209;
    const std::string path = static_cast<const char *>(image) + sizeof magic - 1;
    /* The twin takes its threads and barriers from here, whichever way this library was loaded. */
    Dl_info self;
    dladdr(&modules, &self);
    dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        last_failure = dlerror();
        return 200;
    }
    int count = 0;
    function fresh{nullptr, current_device_of_thread, LIMIT_SHARED, nullptr, nullptr};
    reinterpret_cast<void (*)(char **, char **)>(dlsym(library, "sim_shared"))(&fresh.shared_start, &fresh.shared_stop);
    const kernel *table = reinterpret_cast<table_function>(dlsym(library, "sim_table"))(&count);
    *made = new family;
    (*made)->library = library;
    for (int i = 0; i < count; i++) {
        fresh.twin = table + i;
        auto &slot = (*made)->functions[table[i].name];
        slot = std::make_unique<function>(fresh);
        functions.insert(slot.get());
    }
    modules.insert(*made);
    return OK;
}
EXPORT cuModuleUnload(family *unwanted) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    if (!modules.erase(unwanted)) return INVALID_HANDLE;
    wait_for_device(current_device_of_thread);
    for (auto &[name, f] : unwanted->functions) functions.erase(f.get());
    delete unwanted;
    return OK;
}
EXPORT cuModuleGetFunction(const function **found, family *within, const char *name) {
    ENTER;
    UNSAFE_IN_CAPTURE; /* lazy loading loads here */
    if (!modules.count(within)) return INVALID_HANDLE;
    const auto at = within->functions.find(name);
    if (at == within->functions.end()) return NOT_FOUND;
    *found = at->second.get();
    return OK;
}
EXPORT cuFuncGetAttribute(int *value, int attribute, function *f) {
    ENTER;
    if (!functions.count(f)) return INVALID_HANDLE;
    static const std::map<int, int> attributes = {{0, 1024}, {1, 0}, {3, 0}, {4, 32}};
    if (attribute == 8)
        *value = f->dynamic_shared_limit;
    else if (attributes.count(attribute))
        *value = attributes.at(attribute);
    else
        return INVALID_VALUE;
    return OK;
}
EXPORT cuFuncSetAttribute(function *f, int attribute, int value) {
    ENTER;
    if (!functions.count(f)) return INVALID_HANDLE;
    if (attribute != 8 || value > LIMIT_SHARED_OPTIN) return INVALID_VALUE;
    f->dynamic_shared_limit = value;
    return OK;
}
EXPORT cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, function *f, int threads, size_t shared) {
    ENTER;
    if (!functions.count(f) || threads <= 0) return INVALID_VALUE;
    *blocks = std::min(2048 / threads, shared ? int((228 << 10) / shared) : 32);
    return OK;
}
EXPORT cuLaunchKernel(function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *handle, void **args, void **) {
    ENTER;
    WORK_STREAM(handle);
    if (!functions.count(f) || f->device != current_device_of_thread) return INVALID_HANDLE;
    const uint64_t threads = uint64_t(bx) * by * bz;
    if (!gx || !gy || !gz || !threads || threads > 1024 || bz > 64 || gx > 0x7fffffffu || gy > 65535 || gz > 65535)
        return INVALID_VALUE;
    if (shared > unsigned(f->dynamic_shared_limit)) return INVALID_VALUE;
    auto launch = std::make_shared<launch_record>();
    launch->target = f;
    launch->twin = f->twin;
    launch->grid = {gx, gy, gz};
    launch->block = {bx, by, bz};
    launch->shared = shared;
    for (int i = 0; i < f->twin->n_args; i++) {
        const char *value = static_cast<const char *>(args[i]);
        launch->copies.emplace_back(value, value + f->twin->arg_sizes[i]);
    }
    for (auto &each : launch->copies) launch->args.push_back(each.data());
    const piece_ptr work = enqueue(s, [launch]() -> int {
        failure what;
        takes_kernel();
        what.why = suspicious_argument(*launch);
        what.code = what.why.empty() ? 0 : 700;
        if (what.code == 0) {
            /* as global memory: it ends at a page without access */
            static char *room = static_cast<char *>(shared_room());
            launch->dynamic_shared = room - ((launch->shared + 15) & ~15u);
            what = run_kernel(*launch);
        }
        if (what.code == 0) {
            what.why = overwritten(*launch);
            what.code = what.why.empty() ? 0 : 700;
        }
        if (what.code) {
            last_failure = describe_fault(*launch, what);
            fprintf(stderr, "simulator: %s\n", last_failure.c_str());
        }
        return what.code;
    });
    if (getenv("CUDA_LAUNCH_BLOCKING") && getenv("CUDA_LAUNCH_BLOCKING")[0] == '1') return wait_for(work);
    return OK;
}
