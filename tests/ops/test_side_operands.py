"""Operands beside the input (weights, targets, statistics, sources): one of a dtype that an operator does not take is
refused, and never read as if it were of another."""

import numpy as np
import pytest

import ferrox as fx

F = fx.nn.functional
DTYPES = [fx.bool, fx.uint8, fx.int8, fx.int16, fx.int32, fx.int64, fx.float16, fx.bfloat16, fx.float32, fx.float64]
FLOATS = [fx.float16, fx.bfloat16, fx.float32, fx.float64]
rng = np.random.default_rng(7)


def r(dtype, *shape):
    return fx.from_numpy(rng.uniform(0.1, 0.9, shape)).to(dtype)


def side(dtype, *shape):
    return fx.from_numpy(rng.integers(1, 3, shape)).to(dtype)


CLASSES = fx.tensor([0, 2, 1, 1])
# name: function of the input's dtype and the other operand's
STRICT = {
    "cross_entropy": lambda x, d: F.cross_entropy(r(x, 4, 3), CLASSES, weight=side(d, 3)),
    "nll_loss": lambda x, d: F.nll_loss(r(x, 4, 3), CLASSES, weight=side(d, 3)),
    "binary_cross_entropy": lambda x, d: F.binary_cross_entropy(r(x, 4), side(fx.int64, 4).sub(1).to(d)),
    "prelu": lambda x, d: F.prelu(r(x, 4, 3), side(d, 3)),
    "linear": lambda x, d: F.linear(r(x, 4, 3), side(d, 2, 3)),
    "linear bias": lambda x, d: F.linear(r(x, 4, 3), r(x, 2, 3), side(d, 2)),
    "lerp weight": lambda x, d: fx.lerp(r(x, 4), r(x, 4), side(d, 4)),
    "lerp end": lambda x, d: fx.lerp(r(x, 4), side(d, 4), 0.25),
    "index_add": lambda x, d: r(x, 4).index_add(0, fx.tensor([0, 1]), side(d, 2)),
    "index_copy": lambda x, d: r(x, 4).index_copy(0, fx.tensor([0, 1]), side(d, 2)),
    "index_put": lambda x, d: r(x, 4).index_put((fx.tensor([0, 1]),), side(d, 2)),
    "scatter": lambda x, d: r(x, 4).scatter(0, fx.tensor([0, 1]), side(d, 2)),
    "scatter_reduce": lambda x, d: r(x, 4).scatter_reduce(0, fx.tensor([0, 1]), side(d, 2), "sum"),
    "masked_scatter": lambda x, d: r(x, 2).masked_scatter(fx.tensor([True, False]), side(d, 2)),
    "addmm": lambda x, d: fx.addmm(side(d, 2, 3), r(x, 2, 4), r(x, 4, 3)),
    "addmv": lambda x, d: fx.addmv(side(d, 2), r(x, 2, 4), r(x, 4)),
    "baddbmm": lambda x, d: fx.baddbmm(side(d, 1, 2, 3), r(x, 1, 2, 4), r(x, 1, 4, 3)),
    "attention": lambda x, d: F.scaled_dot_product_attention(r(x, 2, 3), side(d, 2, 3), r(x, 2, 3)),
}
# Half-precision inputs take weights and statistics of float32 too.
WIDE = {
    "layer_norm": lambda x, d: F.layer_norm(r(x, 4, 3), (3,), side(d, 3)),
    "layer_norm, matrix": lambda x, d: F.layer_norm(r(x, 4, 3, 2), (3, 2), side(d, 3, 2)),
    "layer_norm bias": lambda x, d: F.layer_norm(r(x, 4, 3), (3,), None, side(d, 3)),
    "batch_norm": lambda x, d: F.batch_norm(r(x, 4, 3), None, None, side(d, 3), training=True),
    "batch_norm bias": lambda x, d: F.batch_norm(r(x, 4, 3), None, None, r(x, 3), side(d, 3), training=True),
    "batch_norm mean": lambda x, d: F.batch_norm(r(x, 4, 3), side(d, 3), r(x, 3), training=True),
    "batch_norm variance": lambda x, d: F.batch_norm(r(x, 4, 3), r(x, 3), side(d, 3)),
    "group_norm": lambda x, d: F.group_norm(r(x, 4, 4), 2, side(d, 4)),
    "instance_norm": lambda x, d: F.instance_norm(r(x, 4, 3, 5), None, None, None, side(d, 3)),
}


@pytest.mark.parametrize("name", [*STRICT, *WIDE])
def test_another_dtype_is_refused(name):
    function = STRICT.get(name) or WIDE[name]
    for x in FLOATS:
        for d in DTYPES:
            half = name in WIDE and x in (fx.float16, fx.bfloat16) and d == fx.float32
            if d == x or half:
                y = function(x, d)
                assert y.dtype == x and fx.isfinite(y).all()
            else:
                with pytest.raises(RuntimeError):
                    function(x, d)


def test_rms_norm_casts_its_weight():
    x, w = r(fx.float64, 4, 3), side(fx.int64, 3)
    for dtype in DTYPES[1:]:
        got = F.rms_norm(x, (3,), w.to(dtype))
        assert got.dtype == fx.float64
        np.testing.assert_array_equal(got.numpy(), F.rms_norm(x, (3,), w.double()).numpy())


@pytest.mark.parametrize("mask", DTYPES)
def test_attention_mask(mask):
    q = r(fx.float32, 1, 2, 3)
    if mask in (fx.bool, fx.float32):
        assert fx.isfinite(F.scaled_dot_product_attention(q, q, q, side(mask, 1, 2, 2))).all()
    else:
        with pytest.raises(RuntimeError, match="attn_mask"):
            F.scaled_dot_product_attention(q, q, q, side(mask, 1, 2, 2))


@pytest.mark.parametrize("weight", DTYPES)
def test_a_weight_of_a_binary_loss_multiplies_in_the_losss_dtype(weight):
    p, t, w = r(fx.float32, 4), fx.tensor([0.0, 1.0, 1.0, 0.0]), side(weight, 4)
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        got = loss(p, t, weight=w, reduction="none")
        assert got.dtype == fx.float32
        np.testing.assert_allclose(got.numpy(), loss(p, t, reduction="none").numpy() * w.float().numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [fx.float32, fx.float64])
def test_half_precision_with_wide_weights_has_its_own_dtype_and_the_wide_ones_digits(dtype):
    x, w, b = r(fx.float16, 6, 4, 5), r(fx.float32, 4) * 3, r(fx.float32, 4)
    for normalised in (F.group_norm(x, 2, w, b), F.instance_norm(x, None, None, w, b)):
        assert normalised.dtype == fx.float16
    wide = F.group_norm(x.to(dtype), 2, w.to(dtype), b.to(dtype)).double().numpy()
    np.testing.assert_allclose(F.group_norm(x, 2, w, b).double().numpy(), wide, rtol=3e-3, atol=6e-3)


@pytest.mark.parametrize("index", [d for d in DTYPES if d not in (fx.int32, fx.int64)])
def test_an_index_is_whole(index):
    at, x = side(index, 2), r(fx.float32, 4, 3)
    for call in (lambda: F.embedding(at, x), lambda: x.index_select(0, at), lambda: x.take(at),
                 lambda: x[:, 0].gather(0, at), lambda: x[:, 0].scatter(0, at, 1.0),
                 lambda: x.index_fill(0, at, 1.0), lambda: F.one_hot(at)):  # fmt: skip
        with pytest.raises((RuntimeError, IndexError)):
            call()


def test_targets_of_unsigned_integers_do_not_wrap():
    x = r(fx.float64, 3)
    for target in (fx.uint8, fx.int64, fx.float64):
        y = fx.tensor([1, 0, 1]).to(target)
        np.testing.assert_allclose(F.soft_margin_loss(x, y).item(),
                                   np.log1p(np.exp(-x.numpy() * [1, 0, 1])).mean())
        np.testing.assert_allclose(F.margin_ranking_loss(x, x * 2, y).item(),
                                   np.maximum(x.numpy() * [1, 0, 1], 0).mean())


def test_the_mean_of_whole_losses_is_refused():
    a, b = fx.tensor([1, 5]), fx.tensor([2, 3])
    for loss in (F.l1_loss, F.mse_loss):
        with pytest.raises((RuntimeError, NotImplementedError)):
            loss(a, b)
    np.testing.assert_array_equal(F.l1_loss(a, b, reduction="none").numpy(), [1, 2])
