/* Accumulating through index arrays, in the order of the index (cpu/index_walk.pyx, Note [Order of accumulation]).
 *
 * Note [Runs]
 * The positions are sorted by key, stable, so that the terms of one place of x are a run, in the order of the index.
 * The first of a run owns the place.  It adds up to FX_CHUNK terms one after another, beginning with what is in x.  A
 * longer run is cut into chunks of FX_CHUNK from its first term on, each summed by a thread of its own, and these into
 * superchunks of FX_CHUNK chunks; the owner adds what is left.  So the order of all additions follows from the length of
 * the run alone, and nothing is added by atomics.
 *
 * Sums of chunks lie at 2 (s / FX_CHUNK) + (s is the first of its run), s the chunk's first place among the sorted: of
 * FX_CHUNK neighbours at most one begins a chunk that continues a run, and at most one begins a long run.  Superchunks
 * likewise.
 */
#include "elementwise.cuh"
#include "indexed.cuh"

namespace fx {

enum : int64_t { SUPERCHUNK = int64_t(FX_CHUNK) * FX_CHUNK };
enum { AT_ONCE = 4 };

/* What terms of a dtype are summed in. */
template <class S> using sum_type = sum_of<S>;

template <class A> __device__ __forceinline__ A combined(A x, A y, int action) {
    if constexpr (std::is_same_v<A, int64_t>) {
        if (action == FX_ACTION_ADD) return A(uint64_t(x) + uint64_t(y));
        if (action == FX_ACTION_MULTIPLY) return A(uint64_t(x) * uint64_t(y));
    } else {
        if (action == FX_ACTION_ADD) return x + y;
        if (action == FX_ACTION_MULTIPLY) return x * y;
    }
    const bool second = action == FX_ACTION_MAXIMUM ? x < y : x > y;
    return second || y != y ? y : x;
}

template <class K> struct run_keys {
    const K *keys;
    int64_t m;
    __device__ __forceinline__ bool holds(int64_t s, K key) const { return s < m && keys[s] == key; }
    /* The first place in [low, s] with the key of s. */
    __device__ __forceinline__ int64_t first(int64_t low, int64_t s) const {
        const K key = keys[s];
        while (low < s) {
            const int64_t middle = low + (s - low) / 2;
            if (keys[middle] == key)
                s = middle;
            else
                low = middle + 1;
        }
        return s;
    }
    /* The first place after the run of s. */
    __device__ __forceinline__ int64_t end(int64_t s) const {
        const K key = keys[s];
        int64_t high = m;
        while (s < high) {
            const int64_t middle = s + (high - s) / 2;
            if (keys[middle] == key)
                s = middle + 1;
            else
                high = middle;
        }
        return s;
    }
    /* Where the chunk of a slot begins, and its run; false when there is none. */
    __device__ __forceinline__ bool chunk(int64_t slot, int64_t size, int64_t *begin, int64_t *run) const {
        const int64_t low = slot / 2 * size;
        if (low >= m) return false;
        if (slot % 2 == 0) { /* that continues a run */
            if (low == 0 || keys[low - 1] != keys[low]) return false;
            *run = first(0, low);
            *begin = *run + (low - *run + size - 1) / size * size;
            return holds(*begin, keys[low]);
        }
        const int64_t last = low + size <= m ? low + size - 1 : m - 1;
        const K key = keys[last];
        if (low > 0 && keys[low - 1] == key) return false;
        *begin = *run = first(low, last);
        return holds(*begin + size, key);
    }
};

/* The elements of a position that one thread takes. */
struct elements {
    int n;
    int64_t k[AT_ONCE];
    __device__ __forceinline__ elements(const fx_accumulate_args &a, int64_t first) : n(0) {
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            k[j] = first + j * a.step;
            n += k[j] < a.q ? 1 : 0;
        }
    }
};

/* Terms s, s + 1, ... of the run, `most` at most, are added to sums; `fresh`: the first one is the sum. */
template <class S, class K>
__device__ __forceinline__ void add_terms(const fx_accumulate_args &a, const run_keys<K> &keys, int64_t s, int64_t most,
                                          const elements &e, sum_type<S> *sums, bool fresh) {
    using A = sum_type<S>;
    const K key = keys.keys[s];
    int64_t at[AT_ONCE];
    for (int j = 0; j < AT_ONCE; j++) at[j] = j < e.n ? offset_in_y(0, e.k[j], a.m, a.q, a.inner) : 0;
    A alpha;
    if constexpr (std::is_same_v<A, int64_t>)
        alpha = a.alpha_whole;
    else
        alpha = A(a.alpha);
    for (int64_t t = s; t < s + most && keys.holds(t, key); t++) {
        const int64_t from = int64_t(a.positions[t]) * a.inner;
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            if (j >= e.n) continue;
            A term;
            convert_to(&term, static_cast<const S *>(a.y)[a.single ? 0 : from + at[j]]);
            if (a.action == FX_ACTION_ADD) {
                if constexpr (std::is_same_v<A, int64_t>)
                    term = A(uint64_t(term) * uint64_t(alpha));
                else
                    term = alpha * term;
            }
            sums[j] = fresh && t == s ? term : combined(sums[j], term, a.action);
        }
    }
}

/* Sums of chunks `apart` one from another, from s on, are added; those of the run only, `most` at most. */
template <class A, class K>
__device__ __forceinline__ void add_chunks(const fx_accumulate_args &a, const run_keys<K> &keys, const A *from,
                                           int64_t s, int64_t run, int64_t apart, int64_t most, const elements &e,
                                           A *sums, bool fresh) {
    const K key = keys.keys[s];
    for (int64_t c = 0, t = s; c < most && keys.holds(t, key); c++, t += apart) {
        const int64_t slot = 2 * (t / apart) + (t == run);
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            if (j >= e.n) continue;
            const A term = from[slot * a.q + e.k[j]];
            sums[j] = fresh && c == 0 ? term : combined(sums[j], term, a.action);
        }
    }
}

template <class S, class K> __device__ __forceinline__ void sum_chunks(const fx_accumulate_args &a) {
    using A = sum_type<S>;
    const run_keys<K> keys{static_cast<const K *>(a.keys), a.m};
    const int64_t slots = 2 * ((a.m + FX_CHUNK - 1) / FX_CHUNK);
    for (int64_t i = first_element(); i < slots * a.step; i += all_threads()) {
        const int64_t slot = quotient(i, a.step);
        const elements e(a, i - slot * a.step);
        int64_t s, run;
        if (!keys.chunk(slot, FX_CHUNK, &s, &run) || keys.keys[s] >= K(a.limit)) continue;
        A sums[AT_ONCE] = {};
        add_terms<S>(a, keys, s, FX_CHUNK, e, sums, true);
        for (int j = 0; j < e.n; j++) static_cast<A *>(a.chunks)[slot * a.q + e.k[j]] = sums[j];
    }
}

template <class A, class K> __device__ __forceinline__ void sum_superchunks(const fx_accumulate_args &a) {
    const run_keys<K> keys{static_cast<const K *>(a.keys), a.m};
    const int64_t slots = 2 * ((a.m + SUPERCHUNK - 1) / SUPERCHUNK);
    for (int64_t i = first_element(); i < slots * a.step; i += all_threads()) {
        const int64_t slot = quotient(i, a.step);
        const elements e(a, i - slot * a.step);
        int64_t s, run;
        if (!keys.chunk(slot, SUPERCHUNK, &s, &run) || keys.keys[s] >= K(a.limit)) continue;
        A sums[AT_ONCE] = {};
        add_chunks(a, keys, static_cast<const A *>(a.chunks), s, run, FX_CHUNK, FX_CHUNK, e, sums, true);
        for (int j = 0; j < e.n; j++) static_cast<A *>(a.superchunks)[slot * a.q + e.k[j]] = sums[j];
    }
}

template <class S, class A> __device__ __forceinline__ A mean_of(A sum, int64_t count) {
    if (count <= 1) return sum;
    if constexpr (std::is_same_v<A, int64_t>) {
        S narrow;
        convert_to(&narrow, sum); /* the sum wraps in the dtype, as on the CPU; the mean rounds down */
        const A value = A(narrow), whole = value / count;
        return whole - (value % count < 0 ? 1 : 0);
    } else {
        return sum / A(count);
    }
}

template <class S, class K> __device__ __forceinline__ void finish(const fx_accumulate_args &a) {
    using A = sum_type<S>;
    const run_keys<K> keys{static_cast<const K *>(a.keys), a.m};
    for (int64_t i = first_element(); i < a.m * a.step; i += all_threads()) {
        const int64_t s = a.step == 1 ? i : quotient(i, a.step);
        const K key = keys.keys[s];
        if (key >= K(a.limit) || (s > 0 && keys.keys[s - 1] == key)) continue;
        const elements e(a, i - s * a.step);
        const int64_t place = offset_in(a.indexed, int64_t(key));
        A sums[AT_ONCE] = {};
        S *x[AT_ONCE];
        for (int j = 0; j < e.n; j++) {
            x[j] = static_cast<S *>(a.x) + place + offset_in(a.kept, e.k[j]);
            if (!a.from_start)
                convert_to(&sums[j], *x[j]);
            else if constexpr (std::is_same_v<A, int64_t>)
                sums[j] = a.start_whole;
            else
                sums[j] = A(a.start_real);
        }
        if (!keys.holds(s + FX_CHUNK, key))
            add_terms<S>(a, keys, s, FX_CHUNK, e, sums, false);
        else if (!keys.holds(s + SUPERCHUNK, key))
            add_chunks(a, keys, static_cast<const A *>(a.chunks), s, s, FX_CHUNK, a.m, e, sums, false);
        else
            add_chunks(a, keys, static_cast<const A *>(a.superchunks), s, s, SUPERCHUNK, a.m, e, sums, false);
        const int64_t count = a.mean ? keys.end(s) - s + (a.from_start ? 0 : 1) : 1;
        for (int j = 0; j < e.n; j++) convert_to(x[j], mean_of<S>(sums[j], count));
    }
}

template <class S> __device__ __forceinline__ void sum_chunks_any(const fx_accumulate_args &a) {
    a.wide ? sum_chunks<S, uint64_t>(a) : sum_chunks<S, uint32_t>(a);
}
template <class A> __device__ __forceinline__ void sum_superchunks_any(const fx_accumulate_args &a) {
    a.wide ? sum_superchunks<A, uint64_t>(a) : sum_superchunks<A, uint32_t>(a);
}
template <class S> __device__ __forceinline__ void finish_any(const fx_accumulate_args &a) {
    a.wide ? finish<S, uint64_t>(a) : finish<S, uint32_t>(a);
}

} // namespace fx

#define FX_KERNEL(name, body)                                                                                         \
    extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ fx_accumulate_args a) { body(a); } \
    FX_EXPORT(name)
#define FX_ACCUMULATE(code, suffix, name, type, ...)         \
    FX_KERNEL(sum_chunks_##suffix, fx::sum_chunks_any<type>) \
    FX_KERNEL(accumulate_##suffix, fx::finish_any<type>)
FX_EACH_INTEGRAL(FX_ACCUMULATE)
FX_EACH_FLOATING(FX_ACCUMULATE)
FX_KERNEL(sum_superchunks_i64, fx::sum_superchunks_any<int64_t>)
FX_KERNEL(sum_superchunks_f32, fx::sum_superchunks_any<float>)
FX_KERNEL(sum_superchunks_f64, fx::sum_superchunks_any<double>)
