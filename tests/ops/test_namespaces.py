"""Rows that live in a namespace: `ferrox.special`, and whatever a row names."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.special

import ferrox as fx

HERE = {
    "digamma", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "log1p", "log_softmax", "logit",
    "logsumexp", "polygamma", "psi", "round", "sinc", "softmax", "xlogy",
}  # fmt: skip


def test_special_has_what_works_and_nothing_else():
    public = {name for name in dir(fx.special) if not name.startswith("_")}
    assert public == set(fx.special.__all__) == HERE
    torch = pytest.importorskip("torch")
    ours = {name for name in dir(torch.special) if hasattr(fx, name) and callable(getattr(fx, name))}
    ours -= {"Tensor", "common_args", "multi_dim_common"}
    assert ours - HERE == set()


def test_a_namespace_is_a_module():
    from ferrox.special import expit

    assert expit is fx.sigmoid and importlib.import_module("ferrox.special") is fx.special
    assert fx.special.gammaln is fx.lgamma and "special" in dir(fx) and not hasattr(fx, "expit")
    assert not hasattr(fx.Tensor, "expit") and not hasattr(fx, "special.expit")


def test_values():
    values = np.random.default_rng(5).uniform(0.1, 0.9, (3, 4))
    x = fx.tensor(values)
    for name in ("digamma", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "log1p", "logit", "psi"):
        expected = getattr(scipy.special, name)(values)
        np.testing.assert_allclose(getattr(fx.special, name)(x).numpy(), expected, rtol=1e-11, err_msg=name)
    np.testing.assert_allclose(fx.special.softmax(x, dim=1).numpy(), scipy.special.softmax(values, 1), rtol=1e-13)
    np.testing.assert_allclose(fx.special.logsumexp(x, axis=0).numpy(), scipy.special.logsumexp(values, 0), rtol=1e-13)
    np.testing.assert_allclose(fx.special.xlogy(x, x).numpy(), scipy.special.xlogy(values, values), rtol=1e-13)
    np.testing.assert_allclose(fx.special.polygamma(1, x).numpy(), scipy.special.polygamma(1, values), rtol=1e-11)


OWN = """
import ferrox as fx
from ferrox._core.api import public
from ferrox._core.graph import op

made = op.row("twice", namespace="linalg", function=lambda input: input + input, doc="Twice a tensor.", method=True)
op.alias_row("doubled", of="linalg.twice", namespace="linalg")
vars(fx).update(public.install())
import ferrox.linalg

x = fx.ones(2)
assert fx.linalg.twice is made is fx.linalg.doubled and not hasattr(fx, "twice")
assert fx.linalg.twice(x).tolist() == x.twice().tolist() == [2.0, 2.0]
assert {"doubled", "twice"} <= set(fx.linalg.__all__) and "linalg" in dir(fx)
assert made.__module__ == "ferrox.linalg" and made.__name__ == "twice" and made.name == "linalg.twice"
try:
    fx.linalg.twice()
except TypeError as error:
    assert str(error).startswith("[linalg.twice]"), error
else:
    raise AssertionError
print("good")
"""


def test_a_row_with_a_namespace_of_its_own():
    done = subprocess.run([sys.executable, "-P", "-c", OWN], capture_output=True, text=True)
    assert done.stdout == "good\n", done.stderr
