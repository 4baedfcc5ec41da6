"""Reading, writing and accumulating through index tensors on the device, against NumPy.

Accumulation has to add in the order of the index, the same bits every time; runs of equal indices longer than one
thread adds by itself are cut into chunks, so that these are compared with sums in float64.
"""

import numpy as np
import pytest

import ferrox as fx

NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def there(x):
    return fx.tensor(np.ascontiguousarray(x)).cuda()


def values(rng, shape, dtype):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    return rng.integers(-9 if dtype[0] != "u" else 0, 10, shape).astype(dtype)


def same(got, expected):
    got = got.cpu().numpy()
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def strided(x):
    """The same values with gaps and another order of dimensions in memory."""
    wide = fx.tensor(np.repeat(x, 2, -1).transpose(*range(1, x.ndim), 0).copy()).cuda()
    return wide.permute(x.ndim - 1, *range(x.ndim - 1))[..., ::2]


def along(n_dims, dim, index):
    """The other indices of np's x[...] that go with an index of x's own dims."""
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[dim] = index
    return tuple(grid[:n_dims])


# reading


@pytest.mark.parametrize("dtype", NAMES)
def test_gather(dtype):
    rng = np.random.default_rng(0)
    for shape, dim, taken in (((5, 7), 0, (9, 7)), ((5, 7), 1, (4, 11)), ((3, 4, 5), 1, (2, 6, 5)), ((6,), 0, (0,))):
        x, index = values(rng, shape, dtype), rng.integers(0, shape[dim], taken)
        expected = x[along(x.ndim, dim, index)]
        same(fx.gather(there(x), dim, there(index)), expected)
        if x.ndim > 1:
            same(fx.gather(strided(x), dim, strided(index)), expected)
    same(fx.gather(there(np.array(7).astype(dtype)), 0, there(np.array([0, 0]))), np.array([7, 7]).astype(dtype))


@pytest.mark.parametrize("dtype", NAMES)
def test_index_select(dtype):
    rng = np.random.default_rng(1)
    for shape in ((6, 5, 4), (8, 16), (3, 32), (11,), (4, 0)):
        x = values(rng, shape, dtype)
        for dim in range(len(shape)):
            if shape[dim] == 0:
                continue
            index = rng.integers(0, shape[dim], 9)
            same(fx.index_select(there(x), dim, there(index)), np.take(x, index, dim))
            if x.ndim > 1 and x.size:
                same(fx.index_select(strided(x), dim, there(index)), np.take(x, index, dim))
            same(fx.index_select(there(x), dim, there(index[:0])), np.take(x, index[:0], dim))


@pytest.mark.parametrize("dtype", NAMES)
def test_reading_by_index_tensors(dtype):
    rng = np.random.default_rng(2)
    x = values(rng, (4, 5, 6, 8), dtype)
    i, j, k = (rng.integers(-n, n, (3, 2)) for n in (4, 5, 6))
    a, (ti, tj, tk) = there(x), map(there, (i, j, k))
    same(a[ti], x[i])
    same(a[:, tj], x[:, j])
    same(a[..., ti], x[..., i])
    same(a[ti, tj], x[i, j])
    same(a[:, tj, tk], x[:, j, k])
    same(a[ti, :, tk], x[i, :, k])
    same(a[:, tj, :, ti], x[:, j, :, i])
    same(a[1:, tj, ::2], x[1:, j, ::2])
    same(a[ti[:, :1], tj], x[i[:, :1], j])
    mask = rng.random((4, 5)) < 0.4
    same(a[there(mask)], x[mask])
    same(a[there(x != 0)], x[x != 0])
    same(fx.take(a, ti), np.take(x, i))


# writing


@pytest.mark.parametrize("dtype", NAMES)
def test_scatter(dtype):
    rng = np.random.default_rng(3)
    for shape, dim, taken in (((5, 7), 0, (5, 6)), ((5, 7), 1, (4, 7)), ((3, 4, 5), 1, (2, 4, 5))):
        x = values(rng, shape, dtype)
        index = np.argsort(rng.random(taken), dim) % shape[dim]
        src = values(rng, taken, dtype)
        expected = x.copy()
        part = expected[tuple(slice(n) if d != dim else slice(None) for d, n in enumerate(taken))]
        np.put_along_axis(part, index, src, dim)
        same(fx.scatter(there(x), dim, there(index), there(src)), expected)
        a = strided(x)
        a.scatter_(dim, strided(index), strided(src))
        same(a, expected)
        number = True if dtype == "bool" else 3
        expected = x.copy()
        expected[along(x.ndim, dim, index)] = number
        same(fx.scatter(there(x), dim, there(index), number), expected)


@pytest.mark.parametrize("places", [40, 2_000_000])
def test_of_several_writes_the_last_one_stays(places):
    """By a table of all places, and by sorting where there are many more of them."""
    rng = np.random.default_rng(4)
    index = rng.integers(0, 30, 500)
    src = rng.permutation(500).astype("i4")
    expected = np.zeros(places, "i4")
    for at, value in zip(index, src, strict=True):
        expected[at] = value
    same(fx.scatter(fx.zeros(places, dtype=fx.int32, device="cuda"), 0, there(index), there(src)), expected)
    index %= 10
    rows = np.zeros((places // 4, 4), "i4")
    for at, value in zip(index, src, strict=True):
        rows[at] = value + np.arange(4)
    x = fx.zeros(places // 4, 4, dtype=fx.int32, device="cuda")
    x[there(index)] = there(src.reshape(500, 1) + np.arange(4, dtype="i4"))
    same(x, rows)


@pytest.mark.parametrize("dtype", NAMES)
def test_index_copy_and_fill(dtype):
    rng = np.random.default_rng(5)
    for shape in ((6, 5, 4), (8, 16), (11,)):
        for dim in range(len(shape)):
            x = values(rng, shape, dtype)
            index = rng.permutation(shape[dim])[: shape[dim] // 2 + 1]
            src = values(rng, tuple(len(index) if d == dim else n for d, n in enumerate(shape)), dtype)
            here = (slice(None),) * dim + (index,)
            expected = x.copy()
            expected[here] = src
            same(fx.index_copy(there(x), dim, there(index), there(src)), expected)
            number = True if dtype == "bool" else 5
            expected = x.copy()
            expected[here] = number
            same(fx.index_fill(there(x), dim, there(index - shape[dim]), number), expected)


@pytest.mark.parametrize("dtype", NAMES)
def test_writing_by_index_tensors(dtype):
    rng = np.random.default_rng(6)
    x = values(rng, (4, 5, 6, 8), dtype)
    flat = rng.permutation(4 * 5 * 6)[:12]
    i, j, k = (v.reshape(3, 4) for v in np.unravel_index(flat, (4, 5, 6)))
    v = values(rng, (3, 4, 8), dtype)
    ti, tj, tk = map(there, (i, j, k - 6))
    for key, on in (((i, j, k), (ti, tj, tk)), ((i, j, k, slice(1, 3)), (ti, tj, tk, slice(1, 3)))):
        expected, a = x.copy(), there(x)
        expected[key] = v[..., : expected[key].shape[-1]]
        a[on] = there(v)[..., : expected[key].shape[-1]]
        same(a, expected)
    one = rng.permutation(5)[:3]
    expected, a, b = x.copy(), there(x), strided(x)
    expected[:, one, 1:] = np.arange(8).astype(dtype)
    a[:, there(one), 1:] = there(np.arange(8).astype(dtype))
    b[:, there(one), 1:] = there(np.arange(8).astype(dtype))
    same(a, expected)
    same(b, expected)
    expected, a = x.copy(), there(x)
    expected[x == 0] = 1
    a[there(x == 0)] = 1
    same(a, expected)


# accumulation


def added(x, key, v):
    """In the order of the index; integers wrap, bool is or, float16 is summed wide."""
    if x.dtype == bool:
        out = x.copy()
        np.logical_or.at(out, key, v)
        return out
    out = x.astype("f8" if x.dtype.kind == "f" else "i8")
    np.add.at(out, key, v.astype(out.dtype))
    return out.astype(x.dtype)


@pytest.mark.parametrize("dtype", NAMES)
def test_scatter_add(dtype):
    rng = np.random.default_rng(7)
    cases = (((5, 7), 0, (9, 7)), ((5, 7), 1, (4, 20)), ((3, 4, 5), 1, (2, 9, 5)), ((2,), 0, (3000,)))
    for shape, dim, taken in cases:
        x, index, src = values(rng, shape, dtype), rng.integers(0, shape[dim], taken), values(rng, taken, dtype)
        expected = added(x, along(x.ndim, dim, index), src)
        same(fx.scatter_add(there(x), dim, there(index), there(src)), expected)
        if x.ndim > 1:
            a = strided(x)
            a.scatter_add_(dim, strided(index), strided(src))
            same(a, expected)


@pytest.mark.parametrize("dtype", NAMES)
def test_index_add(dtype):
    rng = np.random.default_rng(8)
    for shape in ((6, 5, 4), (8, 16), (11,), (3, 200)):
        for dim in range(len(shape)):
            x, index = values(rng, shape, dtype), rng.integers(0, min(4, shape[dim]), 9)
            src = values(rng, tuple(9 if d == dim else n for d, n in enumerate(shape)), dtype)
            expected = added(x, (slice(None),) * dim + (index,), src)
            same(fx.index_add(there(x), dim, there(index), there(src)), expected)
            if dtype != "bool":
                twice = added(expected, (slice(None),) * dim + (index,), src)
                same(fx.index_add(there(x), dim, there(index), there(src), alpha=2), twice)


def test_index_add_takes_a_whole_factor_exactly():
    index, src, alpha = there(np.array([0, 2, 2])), there(np.array([1, 2, 3])), 2**53 + 1
    got = fx.index_add(fx.ones(3, dtype=fx.int64, device="cuda"), 0, index, src, alpha=alpha)
    assert got.tolist() == [1 + alpha, 1, 1 + 5 * alpha]


@pytest.mark.parametrize("dtype", NAMES)
def test_index_put_accumulates(dtype):
    rng = np.random.default_rng(9)
    x = values(rng, (4, 5, 6), dtype)
    i, k = rng.integers(-4, 4, 90), rng.integers(-6, 6, 90)
    v = values(rng, (90, 5), dtype)
    expected = added(x, (i, slice(None), k), v)
    same(fx.index_put(there(x), (there(i), None, there(k)), there(v), accumulate=True), expected)
    one = values(rng, (), dtype)
    expected = added(x, (i,), np.full((90, 5, 6), one))
    same(fx.index_put(there(x), (there(i),), there(one), accumulate=True), expected)


RUNS = [(1, 63), (1, 64), (1, 65), (3, 200), (2, 4096), (2, 4097), (1, 9000), (5, 9000)]


@pytest.mark.parametrize("places, terms", RUNS)
@pytest.mark.parametrize("width", [1, 3])
def test_long_runs(places, terms, width):
    rng = np.random.default_rng(terms)
    for index in (rng.integers(0, places, terms), np.minimum(np.arange(terms) // 70, places - 1)):
        whole = rng.integers(-1000, 1000, (terms, width))
        same(fx.index_add(fx.ones(places, width, dtype=fx.int64, device="cuda"), 0, there(index), there(whole)),
             added(np.ones((places, width), "i8"), (index,), whole))  # fmt: skip
        exact = whole.astype("f4")  # sums that float32 holds exactly
        same(fx.index_add(fx.ones(places, width, device="cuda"), 0, there(index), there(exact)),
             added(np.ones((places, width), "f4"), (index,), exact))  # fmt: skip
        real = rng.standard_normal((terms, width)).astype("f4")
        got = fx.index_add(fx.zeros(places, width, device="cuda"), 0, there(index), there(real)).cpu().numpy()
        expected = added(np.zeros((places, width)), (index,), real)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)
        again = fx.index_add(fx.zeros(places, width, device="cuda"), 0, there(index), there(real)).cpu().numpy()
        np.testing.assert_array_equal(got, again)


def test_short_runs_are_added_one_after_another():
    rng = np.random.default_rng(10)
    index, real = rng.integers(0, 20, 300), rng.standard_normal((300, 5)).astype("f4")
    expected = rng.standard_normal((20, 5)).astype("f4")
    x = there(expected)
    for at, row in zip(index, real, strict=True):
        expected[at] += row
    same(fx.index_add(x, 0, there(index), there(real)), expected)


def test_sums_do_not_depend_on_the_other_places():
    rng = np.random.default_rng(11)
    real = rng.standard_normal(5000).astype("f4")
    alone = fx.scatter_add(fx.zeros(1, device="cuda"), 0, there(np.zeros(5000, "i8")), there(real)).cpu().numpy()
    index = np.concatenate([[0] * 37, [1] * 5000, [2] * 91])
    among = fx.scatter_add(fx.zeros(3, device="cuda"), 0, there(index), there(np.r_[real[:37], real, real[:91]]))
    assert among.cpu().numpy()[1] == alone[0]


@pytest.mark.parametrize("dtype", NAMES[1:])
@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("mode", ["sum", "prod", "mean", "amax", "amin"])
def test_scatter_reduce(mode, include, dtype):
    rng = np.random.default_rng(12)
    x = values(rng, (7, 4), dtype)
    index = rng.integers(0, 5, (12, 4))
    src = np.clip(values(rng, (12, 4), dtype), 0 if dtype == "uint8" else -2, 2)
    wide = x.astype("f8" if x.dtype.kind == "f" else "i8")
    for i in range(7):
        for j in range(4):
            terms = [src[k, j].astype(wide.dtype) for k in range(12) if index[k, j] == i]
            if not terms:
                continue
            terms = [wide[i, j]] * include + terms
            total = {"prod": np.prod, "amax": np.max, "amin": np.min}.get(mode, np.sum)(terms)
            if mode == "mean":
                total = np.array(total).astype(x.dtype if wide.dtype == "i8" else "f8").astype(wide.dtype)
                total = total // len(terms) if wide.dtype == "i8" else total / len(terms)
            wide[i, j] = total
    got = fx.scatter_reduce(there(x), 0, there(index), there(src), mode, include_self=include)
    if dtype in ("float32", "float16") and mode == "mean":
        np.testing.assert_allclose(got.cpu().numpy(), wide, rtol=1e-3 if dtype == "float16" else 1e-6)
    else:
        same(got, wide.astype(x.dtype))


def test_extremes_keep_nan():
    x = there(np.zeros(3))
    src = there(np.array([1.0, np.nan, 2.0, -1.0, np.nan, 5.0]))
    index = there(np.array([0, 0, 0, 1, 2, 2]))
    for mode, expected in (("amax", [np.nan, 0, np.nan]), ("amin", [np.nan, -1, np.nan])):
        same(fx.scatter_reduce(x, 0, index, src, mode), np.array(expected))


# gradients


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients(dtype):
    rng = np.random.default_rng(13)
    x = values(rng, (6, 5), dtype)
    index, column = rng.integers(0, 6, 17), rng.integers(-5, 5, 17)
    for pick, key in ((lambda a: a[there(index)], (index,)),
                      (lambda a: a[there(index), there(column)], (index, column)),
                      (lambda a: fx.index_select(a, 0, there(index)), (index,)),
                      (lambda a: fx.nn.functional.embedding(there(index), a), (index,))):  # fmt: skip
        a = there(x).requires_grad_()
        y = pick(a)
        same(y.detach(), x[key])
        g = values(rng, tuple(y.shape), dtype)
        y.backward(there(g))
        same(a.grad, added(np.zeros_like(x), key, g))
    a = there(x).requires_grad_()
    own = rng.integers(0, 6, (9, 5))
    g = values(rng, (9, 5), dtype)
    fx.gather(a, 0, there(own)).backward(there(g))
    same(a.grad, added(np.zeros_like(x), along(2, 0, own), g))
    a, b = there(x).requires_grad_(), there(g).requires_grad_()
    fx.scatter_add(a, 0, there(own), b).backward(there(x + 1))
    same(a.grad, x + 1)
    same(b.grad, (x + 1)[along(2, 0, own)])


# indices out of range


@pytest.mark.parametrize("bad", [6, -1, 2**40])
def test_indices_out_of_range_are_reported(bad):
    x, index = fx.arange(12.0, device="cuda").reshape(6, 2), np.array([0, bad, 2])
    with pytest.raises(IndexError, match=rf"\[index_select\] index {bad} is out of range for a dimension of size 6"):
        fx.index_select(x, 0, there(index)).cpu()
    one = there(np.array([[0], [bad], [2]]))
    with pytest.raises(IndexError, match=rf"\[gather\] index {bad}"):
        fx.gather(x, 0, one).cpu()
    for write in (lambda a: a.scatter_(0, one, 9.0),
                  lambda a: a.index_add_(0, there(index), fx.ones(3, 2, device="cuda")),
                  lambda a: a.index_copy_(0, there(index), fx.ones(3, 2, device="cuda")),
                  lambda a: a.scatter_add_(0, one, fx.ones(3, 1, device="cuda"))):  # fmt: skip
        a = x.clone()
        write(a)
        with pytest.raises(IndexError, match=str(bad)):
            fx.cuda.synchronize()
        same(a[3:], np.arange(6, 12, dtype="f4").reshape(3, 2))
    a = x.clone()
    a[there(np.array([0, -7]))] = 5.0
    with pytest.raises(IndexError, match=r"index -7 is out of range for a dimension of size 6"):
        a.cpu()
    same(a, np.r_[5.0, 5.0, np.arange(2, 12)].astype("f4").reshape(6, 2))


def test_indices_into_nothing_are_reported():
    x, index = fx.zeros(0, 3, device="cuda"), there(np.array([[0, 0, 0]]))
    for write in (lambda: x.scatter_(0, index, fx.ones(1, 3, device="cuda")),
                  lambda: x.scatter_add_(0, index, fx.ones(1, 3, device="cuda"))):  # fmt: skip
        write()
        with pytest.raises(IndexError, match="index 0 is out of range for a dimension of size 0"):
            fx.cuda.synchronize()


def test_many_indices_and_nothing():
    x = np.arange(2**10, dtype="f4").reshape((2,) * 10)
    index = [np.array([0, 1, 1]) for _ in range(10)]
    same(there(x)[tuple(map(there, index))], x[tuple(index)])
    same(there(x)[:, there(index[0]), :, there(index[1]), ..., there(index[2])],
         x[:, index[0], :, index[1], ..., index[2]])  # fmt: skip
    empty = there(np.zeros(0, "i8"))
    assert there(x)[empty].shape == (0,) + (2,) * 9
    same(fx.index_add(there(x[0]), 0, empty, fx.zeros(0, *(2,) * 8, device="cuda")), x[0])
