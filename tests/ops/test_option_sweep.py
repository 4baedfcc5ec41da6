"""Random valid calls of functions with options, against PyTorch: numbers of dimensions from 0, sizes from 0, negative
dims, keepdim, layouts, broadcasting, NaN and infinity.  What one refuses, the other refuses."""

import random
import warnings

import numpy as np
import pytest
from against_torch import fx_of, numbers
from peers import torch

import ferrox as fx

inf, nan = float("inf"), float("nan")
SIZES = [0, 1, 1, 2, 3, 3, 4, 5]


class Draw:
    """One call's worth of chance."""

    def __init__(self, seed):
        self.pick = random.Random(seed)
        self.rng = np.random.default_rng(seed)

    def chance(self, p):
        return self.pick.random() < p

    def shape(self, low=0, high=4):
        return tuple(self.pick.choice(SIZES) for _ in range(self.pick.randint(low, high)))

    def full(self, low=1, high=3):
        """A shape without zeros."""
        return tuple(self.pick.randint(1, 4) for _ in range(self.pick.randint(low, high)))

    def x(self, shape=None, special=0.0, whole=False):
        """A float64 tensor, perhaps transposed, spaced or expanded."""
        shape = self.shape() if shape is None else shape
        values = self.rng.integers(-2, 3, shape).astype(float) if whole else self.rng.standard_normal(shape)
        if special and self.chance(0.4):
            values = np.where(self.rng.random(shape) < special, self.rng.choice([nan, inf, -inf, 0.0], shape), values)
        x = torch.from_numpy(np.ascontiguousarray(values)).reshape(shape)
        kind = self.pick.randrange(4)
        if kind == 1 and x.ndim > 1:
            x = x.transpose(0, -1).contiguous().transpose(0, -1)
        elif kind == 2 and x.ndim:
            x = torch.stack([x, x + 1], -1)[..., 0]
        elif kind == 3 and x.ndim and x.shape[0] > 1:
            x = x[:1].expand(x.shape)
        return x

    def index(self, high, shape, low=0):
        return torch.from_numpy(self.rng.integers(low, max(high, low + 1), shape)) if high > low \
            else torch.zeros(shape, dtype=torch.int64)

    def dim(self, x, slip=0.05):
        n = max(x.ndim, 1)
        return self.pick.randint(-n - 1, n) if self.chance(slip) else self.pick.randint(-n, n - 1)

    def dims(self, x):
        """One dim, several, none, or all by leaving it out."""
        kind = self.pick.randrange(4)
        if kind == 0 or x.ndim == 0:
            return None if self.chance(0.5) else self.dim(x)
        if kind == 1:
            return self.dim(x)
        chosen = self.pick.sample(range(x.ndim), self.pick.randint(1, x.ndim))
        return tuple(d - x.ndim if self.chance(0.3) else d for d in chosen)

    def flag(self):
        return self.chance(0.5)

    def number(self):
        return self.pick.choice([0, 1, -1, 2, 3, -2])


def reduction(name, special=0.15):
    def call(draw):
        x, dim, keepdim = draw.x(special=special), None, draw.flag()
        dim = draw.dims(x)
        return (lambda lib, x: getattr(lib, name)(x, dim=dim, keepdim=keepdim)) if dim is not None else \
            (lambda lib, x: getattr(lib, name)(x)), [x]
    return call


def deviation(name):
    def call(draw):
        x = draw.x()
        dim, keepdim, correction = draw.dims(x), draw.flag(), draw.pick.choice([0, 1, 2])
        return lambda lib, x: getattr(lib, name)(x, dim, correction=correction, keepdim=keepdim), [x]
    return call


def along(name, whole=False, special=0.15, first=False):
    """name(x, dim) with indices where ties do not matter: values alone."""
    def call(draw):
        x = draw.x(special=special, whole=whole)
        dim = draw.dim(x, 0 if first else 0.05)
        if name.endswith("median"):  # PyTorch's is wrong of expanded memory
            x = x.contiguous()

        def run(lib, x):
            out = getattr(lib, name)(x, dim)
            return out[0] if first else out
        return run, [x]
    return call


def sized(name, *choices):
    """name(x, one of choices, …)."""
    def call(draw):
        x, args = draw.x(), [choice(draw) for choice in choices]
        args = [arg(x) if callable(arg) else arg for arg in args]
        return lambda lib, x: getattr(lib, name)(x, *args), [x]
    return call


def a_dim(draw):
    return lambda x: draw.dim(x)


def a_number(draw):
    return draw.number()


def norm(draw):
    x = draw.x(special=0.1)
    p, dim, keepdim = draw.pick.choice([0, 1, 2, 3, 0.5, inf, -inf, "fro"]), draw.dims(x), draw.flag()
    return lambda lib, x: lib.norm(x, p, dim=dim, keepdim=keepdim), [x]


def rot90(draw):
    x = draw.x(draw.shape(2, 4))
    k, dims = draw.pick.randint(-6, 6), draw.pick.sample(range(-x.ndim, x.ndim), 2)
    return lambda lib, x: lib.rot90(x, k, dims), [x]


def roll(draw):
    x = draw.x()
    n = draw.pick.randint(0, 2)
    if n == 0 or x.ndim == 0:
        shift = draw.pick.randint(-9, 9)
        return lambda lib, x: lib.roll(x, shift), [x]
    shifts, dims = [draw.pick.randint(-9, 9) for _ in range(n)], [draw.dim(x, 0) for _ in range(n)]
    return lambda lib, x: lib.roll(x, shifts, dims), [x]


def flip(draw):
    x = draw.x()
    dims = draw.pick.sample(range(x.ndim), draw.pick.randint(0, x.ndim))
    return lambda lib, x: lib.flip(x, dims), [x]


def pad(draw):
    x = draw.x(draw.full(2, 4))
    mode = draw.pick.choice(["constant", "reflect", "replicate", "circular"])
    n = draw.pick.randint(1, 3) if mode == "constant" else x.ndim - draw.pick.randint(1, 2)
    sizes = [draw.pick.choice([0, 0, 1, 1, 2, -1]) for _ in range(2 * max(n, 1))]
    if mode != "constant" and any(
        max(1, max(pair) if mode == "circular" else 1) > size + min(pair[0], 0) + min(pair[1], 0)
        for size, pair in zip(reversed(x.shape), zip(sizes[::2], sizes[1::2], strict=True), strict=False)
    ):
        # PyTorch's circular mode reads what it has not yet written; whether nothing may be left depends on the mode.
        sizes = [abs(s) % 2 for s in sizes]
    if mode != "constant":
        return lambda lib, x: lib.nn.functional.pad(x, sizes, mode), [x]
    value = draw.pick.choice([None, 1.5, -2, nan])
    return lambda lib, x: lib.nn.functional.pad(x, sizes, mode, value), [x]


def gather(draw):
    x = draw.x(draw.full(1, 3))
    d = draw.pick.randrange(x.ndim)
    shape = [draw.pick.randint(0, 4) if k == d else draw.pick.randint(0, x.shape[k]) for k in range(x.ndim)]
    index = draw.index(x.shape[d], shape)
    d -= x.ndim if draw.flag() else 0
    return lambda lib, x, i: lib.gather(x, d, i), [x, index]


def scatter(name):
    def call(draw):
        x = draw.x(draw.full(1, 3))
        d = draw.pick.randrange(x.ndim)
        shape = [draw.pick.randint(0, x.shape[k]) for k in range(x.ndim)]
        order = draw.rng.permuted(np.broadcast_to(np.arange(x.shape[d])[:, None], (x.shape[d], 64)), axis=0)
        lines = int(np.prod(shape[:d] + shape[d + 1 :]))
        index = np.moveaxis(order[: shape[d], :lines].reshape([shape[d], *shape[:d], *shape[d + 1 :]]), 0, d)
        source = draw.x(tuple(s + draw.pick.randint(0, 1) for s in shape))
        if name == "scatter_reduce":
            mode, include = draw.pick.choice(["sum", "prod", "mean", "amax", "amin"]), draw.flag()
            return (lambda lib, x, i, s: lib.scatter_reduce(x, d, i, s, mode, include_self=include)), \
                [x, torch.from_numpy(index.copy()), source]
        return lambda lib, x, i, s: getattr(lib, name)(x, d, i, s), [x, torch.from_numpy(index.copy()), source]
    return call


def take_along_dim(draw):
    x = draw.x(draw.full(1, 3))
    d = draw.pick.randrange(x.ndim)
    shape = [draw.pick.randint(0, 4) if k == d else draw.pick.choice([1, x.shape[k]]) for k in range(x.ndim)]
    index = draw.index(x.shape[d], shape, low=-x.shape[d])
    d -= x.ndim if draw.flag() else 0
    return lambda lib, x, i: lib.take_along_dim(x, i, d), [x, index]


def index_write(name):
    def call(draw):
        x = draw.x(draw.full(1, 3))
        d = draw.pick.randrange(x.ndim)
        n = draw.pick.randint(0, x.shape[d])
        index = torch.from_numpy(draw.rng.permutation(x.shape[d])[:n].copy())
        at = d - x.ndim if draw.flag() else d
        if name == "index_fill":
            value = draw.number()
            return lambda lib, x, i: lib.index_fill(x, at, i, value), [x, index]
        source = draw.x((*x.shape[:d], n, *x.shape[d + 1 :]))
        return lambda lib, x, i, s: getattr(lib, name)(x, at, i, s), [x, index, source]
    return call


def tensordot(draw):
    n = draw.pick.randint(0, 2)
    inner = draw.full(n, n)
    a = draw.x(draw.full(0, 2) + tuple(1 if draw.chance(0.1) else s for s in inner))
    b = draw.x(inner + draw.full(0, 2))
    if draw.flag():
        dims = ([k - n for k in range(n)], list(range(n)))
        return lambda lib, a, b: lib.tensordot(a, b, dims), [a, b]
    return lambda lib, a, b: lib.tensordot(a, b, n), [a, b]


EQUATIONS = ["ij,jk->ik", "ij,jk", "bij,bjk->bik", "ijk,k->j", "ii->i", "ii", "ij->ji", "i,j->ij", "ij,ij->",
             "...ij,...jk", "ij,k->k", "ijk->k", "bhid,bhjd->bhij", "i,i->i", "ij,ij,ij->j"]  # fmt: skip


def einsum(draw):
    equation = draw.pick.choice(EQUATIONS)
    sizes = {c: draw.pick.choice([0, 1, 2, 3]) for c in "bhijkd"}
    xs = [draw.x(tuple(sizes[c] for c in term.replace("...", ""))) for term in equation.split("->")[0].split(",")]
    return lambda lib, *xs: lib.einsum(equation, *xs), xs


def matmul(draw):
    inner, kind = draw.pick.randint(0, 3), draw.pick.randrange(4)
    a = draw.x(((), draw.shape(1, 1), draw.shape(2, 2), draw.shape(1, 1))[kind] + (inner,))
    b = draw.x((inner,) + ((), (), draw.shape(1, 1), draw.shape(1, 1))[kind])
    return lambda lib, a, b: lib.matmul(a, b), [a, b]


def added(name):
    def call(draw):
        # PyTorch's addmv of no elements leaves the first operand unexpanded.
        m, k, n, batch = (draw.pick.randint(1 if name == "addmv" else 0, 3) for _ in range(4))
        a, b = draw.x((m, k)), draw.x((k, n))
        c = draw.x(draw.pick.choice([(m, n), (n,), (1, n), (m, 1), ()]))
        if name == "addmv":
            b, c = draw.x((k,)), draw.x(draw.pick.choice([(m,), (), (1,)]))
        if name == "baddbmm":
            a, b, c = draw.x((batch, m, k)), draw.x((batch, k, n)), draw.x(draw.pick.choice([(batch, m, n), (m, n)]))
        beta, alpha = draw.pick.choice([1, 0.5, 2]), draw.pick.choice([1, 0, -1.5])
        return lambda lib, c, a, b: getattr(lib, name)(c, a, b, beta=beta, alpha=alpha), [c, a, b]
    return call


def diff(draw):
    x = draw.x(draw.shape(1, 3))
    d, n = draw.pick.randrange(x.ndim), draw.pick.randint(0, 3)
    ends = [draw.x((*x.shape[:d], draw.pick.randint(0, 2), *x.shape[d + 1 :])) if draw.flag() else None for _ in "ab"]
    return lambda lib, x, a, b: lib.diff(x, n, d, prepend=a, append=b), [x, *ends]


def split(name):
    def call(draw):
        x = draw.x(draw.shape(1, 3))
        d = draw.dim(x)
        size = x.shape[d] if -x.ndim <= d < x.ndim else 1
        n = draw.pick.randint(1, 4)
        if name == "tensor_split" and draw.flag():
            n = [draw.pick.randint(-2, size + 1) for _ in range(draw.pick.randint(0, 3))]
        elif name == "split" and draw.flag():
            cuts = sorted(draw.pick.randint(0, size) for _ in range(2))
            n = [cuts[0], cuts[1] - cuts[0], size - cuts[1]]
        return lambda lib, x: list(getattr(lib, name)(x, n, d)), [x]
    return call


def repeat_interleave(draw):
    x = draw.x()
    dim = draw.dim(x) if draw.flag() and x.ndim else None
    if draw.flag() or not (dim is None or -x.ndim <= dim < x.ndim):
        n = draw.pick.randint(0, 3)
        return lambda lib, x: lib.repeat_interleave(x, n, dim), [x]
    size = x.numel() if dim is None else x.shape[dim]
    counts = draw.index(3, (draw.pick.choice([size, 1]),))
    return lambda lib, x, c: lib.repeat_interleave(x, c, dim), [x, counts]


def view(name):
    """Views with dims and offsets."""
    def call(draw):
        x = draw.x(draw.shape(2, 4))
        a, b = draw.dim(x), draw.dim(x)
        n = draw.pick.randint(-3, 3)
        args = {"transpose": (a, b), "diagonal": (n, a, b), "movedim": (a, b), "unsqueeze": (a,), "squeeze": (a,),
                "flatten": (a, b), "tril": (n,), "triu": (n,), "narrow": (a, abs(n), 1), "select": (a, n),
                "unfold": (a, abs(n), 1 + abs(b)), "diag_embed": (n,), "unbind": (a,)}[name]  # fmt: skip
        if name == "unfold":
            return lambda lib, x: x.unfold(*args), [x]
        return lambda lib, x: getattr(lib, name)(x, *args), [x]
    return call


def quantile(name):
    def call(draw):
        x = draw.x(draw.full(1, 3), special=0.1 if name == "nanquantile" else 0)
        x = torch.where(x.isinf(), 1.0, x)
        q = draw.pick.choice([0.0, 0.3, 0.5, 1.0, torch.tensor([0.25, 0.9], dtype=torch.float64)])
        dim, keepdim = (draw.dim(x) if draw.flag() else None), draw.flag()
        how = draw.pick.choice(["linear", "lower", "higher", "nearest", "midpoint"])
        return lambda lib, x, q: getattr(lib, name)(x, q, dim, keepdim, interpolation=how), [x, q]
    return call


def binary(name, special=0.15):
    def call(draw):
        shape = draw.shape(0, 3)
        other = tuple(1 if draw.chance(0.3) else s for s in shape)[draw.pick.randint(0, max(len(shape), 0)) :]
        a, b = draw.x(shape, special=special), draw.x(other, special=special)
        return lambda lib, a, b: getattr(lib, name)(a, b), [a, b] if draw.flag() else [b, a]
    return call


def clamp(draw):
    x = draw.x(special=0.1)
    low, high = (draw.pick.choice([None, -0.5, 1, draw.x(x.shape)]) for _ in range(2))
    if isinstance(low, torch.Tensor) != isinstance(high, torch.Tensor) and None not in (low, high):
        low = None
    return lambda lib, x, low, high: lib.clamp(x, low, high), [x, low, high]


def loss(name, **more):
    def call(draw):
        x = draw.x(draw.full(1, 3))
        target = draw.x(x.shape)
        x, target = (x.sigmoid(), target.sigmoid()) if "binary" in name or name == "kl_div" else (x, target)
        how = draw.pick.choice(["mean", "sum", "none"])
        return lambda lib, x, t: getattr(lib.nn.functional, name)(x, t, reduction=how, **more), [x, target]
    return call


def classes(name):
    def call(draw):
        n, c, rest = draw.pick.randint(1, 4), draw.pick.randint(1, 4), draw.full(0, 2)
        x = draw.x((n, c, *rest)) if draw.chance(0.8) else draw.x((c,))
        target = draw.index(c, (n, *rest) if x.ndim > 1 else ())
        ignore = draw.pick.choice([-100, 0])
        weight = draw.x((c,)).abs() if draw.flag() else None
        how = draw.pick.choice(["mean", "sum", "none"])
        more = {"label_smoothing": draw.pick.choice([0.0, 0.2])} if name == "cross_entropy" else {}
        return (lambda lib, x, t, w: getattr(lib.nn.functional, name)(x, t, w, ignore_index=ignore, reduction=how,
                                                                      **more)), [x, target, weight]
    return call


def normalised(name):
    def call(draw):
        x = draw.x(tuple(draw.pick.choice([0, 1, 2, 3]) for _ in range(draw.pick.randint(1, 4))))
        if name == "layer_norm":
            k = draw.pick.randint(1, x.ndim)
            shape = tuple(x.shape[x.ndim - k :])
            w, b = (draw.x(shape) if draw.flag() else None for _ in range(2))
            return lambda lib, x, w, b: lib.nn.functional.layer_norm(x, shape, w, b), [x, w, b]
        if x.ndim > 1 and x.shape[1] == 0:
            x = draw.x((2, 3))
        c = x.shape[1] if x.ndim > 1 else 1
        w, b = (draw.x((c,)) if draw.flag() else None for _ in range(2))
        if name == "group_norm":
            groups = draw.pick.randint(1, 3)
            return lambda lib, x, w, b: lib.nn.functional.group_norm(x, groups, w, b), [x, w, b]
        training = draw.flag()
        mean, var = (None, None) if training and draw.flag() else (draw.x((c,)), draw.x((c,)).abs() + 0.1)

        def run(lib, x, m, v, w, b):
            m, v = (None, None) if m is None else (m.clone(), v.clone())
            y = lib.nn.functional.batch_norm(x, m, v, w, b, training)
            return [y, *([] if m is None else [m, v])]
        return run, [x, mean, var, w, b]
    return call


FAMILIES = {
    "reductions": [*map(reduction, ["sum", "mean", "amax", "amin", "logsumexp", "nansum", "nanmean", "all", "any"]),
                   *map(deviation, ["var", "std", "var_mean", "std_mean"]), norm],
    "along one dim": [along(name) for name in ("cumsum", "cumprod", "logcumsumexp", "softmax", "log_softmax", "argmax",
                                               "argmin", "prod", "unbind")] +
                     [along(name, first=True) for name in ("max", "min", "median", "nanmedian", "sort", "cummax",
                                                           "cummin")] +
                     [along("mode", whole=True, special=0, first=True), diff,
                      *map(quantile, ["quantile", "nanquantile"])],
    "movement": [rot90, roll, flip, pad, repeat_interleave, *map(split, ["split", "chunk", "tensor_split"]),
                 *map(view, ["transpose", "diagonal", "movedim", "unsqueeze", "squeeze", "flatten", "tril", "triu",
                             "narrow", "select", "unfold", "diag_embed", "unbind"])],
    "indexing": [gather, take_along_dim, *map(scatter, ["scatter", "scatter_add", "scatter_reduce"]),
                 *map(index_write, ["index_add", "index_copy", "index_fill"])],
    "products": [tensordot, einsum, matmul, *map(added, ["addmm", "addmv", "baddbmm"])],
    "pairs": [*map(binary, ["add", "sub", "mul", "div", "maximum", "minimum", "fmax", "fmin", "pow", "remainder",
                            "fmod", "floor_divide", "atan2", "hypot", "copysign", "logaddexp", "xlogy", "eq", "lt",
                            "isclose"]), clamp],
    "layers": [*map(loss, ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div",
                           "binary_cross_entropy_with_logits", "hinge_embedding_loss", "poisson_nll_loss"]),
               *map(classes, ["cross_entropy", "nll_loss"]),
               *map(normalised, ["layer_norm", "group_norm", "batch_norm"])],
}  # fmt: skip


def outcome(call, lib, args):
    try:
        out = call(lib, *args)
    except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as error:
        return error
    return list(out) if isinstance(out, (tuple, list)) else [out]


def difference(got, expected):
    """What differs, or None."""
    if isinstance(got, Exception) or isinstance(expected, Exception):
        if isinstance(got, Exception) and isinstance(expected, Exception):
            return None
        return f"Ferrox: {got!r}; PyTorch: {expected!r}"
    if len(got) != len(expected):
        return f"{len(got)} outputs, {len(expected)} from PyTorch"
    for one, other in zip(got, expected, strict=True):
        if tuple(one.shape) != tuple(other.shape) or str(one.dtype)[7:] != str(other.dtype)[6:]:
            return f"{tuple(one.shape)} {one.dtype}, {tuple(other.shape)} {other.dtype} from PyTorch"
        with np.errstate(all="ignore"):
            if not np.allclose(numbers(one), numbers(other), rtol=1e-9, atol=1e-11, equal_nan=True):
                return f"{numbers(one)}, {numbers(other)} from PyTorch"
    return None


@pytest.mark.parametrize("family", FAMILIES)
def test_random_calls(family):
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k, make in enumerate(FAMILIES[family]):
            for seed in range(CALLS):
                call, args = make(Draw(1000 * k + seed))
                found = difference(outcome(call, fx, [fx_of(each) for each in args]), outcome(call, torch, args))
                if found:
                    shapes = [tuple(a.shape) if hasattr(a, "shape") else a for a in args]
                    held = zip(call.__code__.co_freevars, call.__closure__ or (), strict=True)
                    names = {n: c.cell_contents for n, c in held}
                    wrong.append(f"{k}: seed {seed} of {make.__qualname__}, {names}, {shapes}: {found}")
    assert not wrong, "\n\n".join(wrong[:40])


CALLS = 150
