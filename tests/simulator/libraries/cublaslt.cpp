/* What Ferrox calls of cuBLASLt, for the simulated device: plain loops, queued on the stream as a host function.
 *
 * It refuses what the library would: a layout whose pitch is too short, a bias without its epilogue, an address that is
 * aligned less than was promised.  fxlt_delay makes it slow, fxlt_fail makes the next product fail.
 */
#include "fx/half.h"
#include <initializer_list>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern "C" int cuLaunchHostFunc(void *stream, void (*call)(void *), void *data);

namespace {
struct layout {
    int type;
    uint64_t rows, columns;
    int64_t ld;
    int32_t batch;
    int64_t offset;
};
struct desc {
    int compute, scale;
    int32_t transposed[2], epilogue;
    const void *bias;
};
struct preference {
    uint64_t workspace;
    uint32_t reduction, alignment[4];
};
struct algorithm {
    uint64_t data[8]; /* 0: a mark, 1 to 4: alignment of A, B, C, D */
};
struct proposal {
    algorithm algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
struct work {
    desc d;
    layout l[4];
    const void *data[4];
    double alpha, beta;
    int delay;
};
int calls, delay, failing;
constexpr uint64_t MARK = 0x5eed;

double get(const void *p, int type, int64_t i) {
    switch (type) {
    case 0: return static_cast<const float *>(p)[i];
    case 1: return static_cast<const double *>(p)[i];
    case 2: return fx::float16_to_float(static_cast<const uint16_t *>(p)[i]);
    default: return fx::bfloat16_to_float(static_cast<const uint16_t *>(p)[i]);
    }
}
void put(void *p, int type, int64_t i, double x) {
    switch (type) {
    case 0: static_cast<float *>(p)[i] = float(x); break;
    case 1: static_cast<double *>(p)[i] = x; break;
    case 2: static_cast<uint16_t *>(p)[i] = fx::float_to_float16(float(x)); break;
    default: static_cast<uint16_t *>(p)[i] = fx::float_to_bfloat16(float(x));
    }
}
void multiply(void *data) {
    const work *w = static_cast<work *>(data);
    const bool ta = w->d.transposed[0], tb = w->d.transposed[1];
    const int64_t m = w->l[3].rows, n = w->l[3].columns, k = ta ? w->l[0].rows : w->l[0].columns;
    const int type = w->l[3].type;
    if (w->delay) usleep(w->delay);
    for (int64_t z = 0; z < w->l[3].batch; z++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                double sum = 0;
                for (int64_t l = 0; l < k; l++)
                    sum += get(w->data[0], type, z * w->l[0].offset + (ta ? l + i * w->l[0].ld : i + l * w->l[0].ld)) *
                           get(w->data[1], type, z * w->l[1].offset + (tb ? j + l * w->l[1].ld : l + j * w->l[1].ld));
                sum *= w->alpha;
                if (w->beta != 0) sum += w->beta * get(w->data[2], type, z * w->l[2].offset + i + j * w->l[2].ld);
                if (w->d.epilogue == 4) sum += get(w->d.bias, type, i);
                put(const_cast<void *>(w->data[3]), type, z * w->l[3].offset + i + j * w->l[3].ld, sum);
            }
    delete w;
}
bool good(const desc *d, const layout *a, const layout *b, const layout *c, const layout *r) {
    const uint64_t k = d->transposed[0] ? a->rows : a->columns;
    bool fine = (d->transposed[0] ? a->columns : a->rows) == r->rows;
    fine = fine && (d->transposed[1] ? b->rows : b->columns) == r->columns;
    fine = fine && (d->transposed[1] ? b->columns : b->rows) == k;
    fine = fine && c->rows == r->rows && c->columns == r->columns;
    for (const layout *l : {a, b, c, r})
        fine = fine && l->ld >= int64_t(l->rows) && l->batch == r->batch && l->type == r->type;
    return fine;
}
} // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT int fxlt_calls() { return calls; }
EXPORT void fxlt_delay(int microseconds) { delay = microseconds; }
EXPORT void fxlt_fail(int status) { failing = status; }
EXPORT int cublasLtCreate(void **handle) {
    static char one;
    *handle = &one;
    return 0;
}
EXPORT int cublasLtMatmulDescCreate(void **d, int compute, int scale) {
    *d = new desc{compute, scale, {}, 1, nullptr};
    return 0;
}
EXPORT int cublasLtMatmulDescSetAttribute(void *handle, int attribute, const void *value, size_t size) {
    desc *d = static_cast<desc *>(handle);
    void *to = attribute == 3   ? static_cast<void *>(&d->transposed[0])
               : attribute == 4 ? static_cast<void *>(&d->transposed[1])
               : attribute == 7 ? static_cast<void *>(&d->epilogue)
               : attribute == 8 ? static_cast<void *>(&d->bias)
                                : nullptr;
    if (!to || size != (attribute == 8 ? 8 : 4)) return 7;
    memcpy(to, value, size);
    return 0;
}
EXPORT int cublasLtMatmulDescDestroy(void *d) {
    delete static_cast<desc *>(d);
    return 0;
}
EXPORT int cublasLtMatrixLayoutCreate(void **l, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    *l = new layout{type, rows, columns, ld, 1, 0};
    return 0;
}
EXPORT int cublasLtMatrixLayoutSetAttribute(void *handle, int attribute, const void *value, size_t size) {
    layout *l = static_cast<layout *>(handle);
    if (attribute == 5 && size == 4)
        memcpy(&l->batch, value, 4);
    else if (attribute == 6 && size == 8)
        memcpy(&l->offset, value, 8);
    else
        return 7;
    return 0;
}
EXPORT int cublasLtMatrixLayoutDestroy(void *l) {
    delete static_cast<layout *>(l);
    return 0;
}
EXPORT int cublasLtMatmulPreferenceCreate(void **p) {
    *p = new preference{0, 7, {256, 256, 256, 256}};
    return 0;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(void *handle, int attribute, const void *value, size_t size) {
    preference *p = static_cast<preference *>(handle);
    if (attribute == 1 && size == 8)
        memcpy(&p->workspace, value, 8);
    else if (attribute == 3 && size == 4)
        memcpy(&p->reduction, value, 4);
    else if (attribute >= 5 && attribute <= 8 && size == 4)
        memcpy(&p->alignment[attribute - 5], value, 4);
    else
        return 7;
    return 0;
}
EXPORT int cublasLtMatmulPreferenceDestroy(void *p) {
    delete static_cast<preference *>(p);
    return 0;
}
EXPORT int cublasLtMatmulAlgoGetHeuristic(void *, void *d, void *a, void *b, void *c, void *r, void *handle, int wanted,
                                          proposal *found, int *n) {
    const preference *p = static_cast<preference *>(handle);
    *n = 0;
    if (!good(static_cast<desc *>(d), static_cast<layout *>(a), static_cast<layout *>(b), static_cast<layout *>(c),
              static_cast<layout *>(r)) ||
        p->reduction & 5)
        return 7;
    for (; *n < wanted && *n < 2; ++*n) {
        found[*n] = {
            {{MARK, p->alignment[0], p->alignment[1], p->alignment[2], p->alignment[3]}}, *n * size_t(4096), 0, 1, {}};
        if (found[*n].workspace > p->workspace) break;
    }
    return 0;
}
EXPORT int cublasLtMatmul(void *, void *d, const void *alpha, const void *a, void *al, const void *b, void *bl,
                          const void *beta, const void *c, void *cl, void *r, void *rl, const algorithm *algo,
                          void *workspace, size_t workspace_size, void *stream) {
    work *w = new work{*static_cast<desc *>(d), {}, {a, b, c, r}, 0, 0, delay};
    void *layouts[4] = {al, bl, cl, rl};
    for (int i = 0; i < 4; i++) w->l[i] = *static_cast<layout *>(layouts[i]);
    w->alpha = get(alpha, w->d.scale, 0);
    w->beta = get(beta, w->d.scale, 0);
    bool fine = algo->data[0] == MARK && (workspace || !workspace_size) && !(w->d.epilogue == 4 && !w->d.bias);
    for (int i = 0; i < 4; i++) fine = fine && reinterpret_cast<uintptr_t>(w->data[i]) % algo->data[1 + i] == 0;
    fine = fine && good(&w->d, &w->l[0], &w->l[1], &w->l[2], &w->l[3]);
    if (failing || !fine) {
        delete w;
        return failing ? failing : 7;
    }
    calls++;
    return cuLaunchHostFunc(stream, multiply, w);
}
