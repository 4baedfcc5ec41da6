"""Every argument by every name that PyTorch takes for it, and what a call that does not fit is told."""

import inspect
import re

import numpy as np
import pytest
from samples import CHECKED, ROWS, arguments, assert_same, calls

import ferrox as fx

# Our name of a parameter where PyTorch has another.
OURS = {
    "self": "input",
    "repeat_interleave.input": "input",
    "split.split_size": "split_size_or_sections",
    "split.split_sizes": "split_size_or_sections",
    "split.input": "tensor",
    "tensor_split.sections": "indices_or_sections",
    "tensor_split.indices": "indices_or_sections",
    "tensor_split.tensor_indices_or_sections": "indices_or_sections",
    "where.x": "input",
    "where.y": "other",
    "xlogy.x": "input",
    "xlogy.y": "other",
    "swapaxes.dim0": "axis0",
    "swapaxes.dim1": "axis1",
    "dot.other": "tensor",
    "isinf.tensor": "input",
    "isfinite.tensor": "input",
    "permute.dim": "dims",
    "view.size": "shape",
    "view.dtype": "shape",
    "expand.size": "sizes",
    "dropout.train": "training",
}
# Names that PyTorch's tables have and Ferrox has not, and why.
NOT_TAKEN = {
    **dict.fromkeys(("layout", "pin_memory", "memory_format", "names", "non_blocking", "generator"), "places"),
    **dict.fromkeys(("values", "out0", "out1", "out2", "max_values", "min_indices"), "results to write into"),
    **dict.fromkeys(("atleast_1d.self", "atleast_2d.self", "atleast_3d.self", "split.self", "tensordot.self"),
                    "what the method is called on"),
    "out_dtype": "of products on GPUs alone",
    "diag_embed.diagonal": "the table says diagonal, the function takes offset",
    "elu.scale": "of torch._C's elu, not of nn.functional",
    "elu.input_scale": "of torch._C's elu, not of nn.functional",
    "embedding.indices": "of torch.embedding",
    "batch_norm.cudnn_enabled": "of torch.batch_norm",
    "layer_norm.cudnn_enabled": "the table says so, the function takes cudnn_enable",
    "msort.descending": "new in the table, not in the function",
    "topk.descending": "new in the table, not in the function",
    "tensordot.dims_self": "of the operator behind it",
    "tensordot.dims_other": "of the operator behind it",
    "tensordot.input": "of the operator behind it",
    "tensordot.other": "of the operator behind it",
    "max.max": "a result to write into",
    "min.min": "a result to write into",
    "aminmax.min": "a result to write into",
    "aminmax.max": "a result to write into",
    "cummax.indices": "a result to write into",
    "cummin.indices": "a result to write into",
    "kthvalue.indices": "a result to write into",
    "median.indices": "a result to write into",
    "nanmedian.indices": "a result to write into",
    "mode.indices": "a result to write into",
    "sort.indices": "a result to write into",
    "topk.indices": "a result to write into",
    "sort.reverse": "of the operator on lists",
    "eq.a": "of the operator on lists",
    "eq.b": "of the operator on lists",
    "ne.a": "of the operator on lists",
    "ne.b": "of the operator on lists",
    "einsum.tensors": "of the operator behind it",
    "einsum.path": "of the operator behind it",
    "einsum.a": "of an operator on lists",
}
STAR = inspect.Parameter.VAR_POSITIONAL


def names_in_pytorch(name):
    """Every name that PyTorch's signatures of a function or method have for a parameter."""
    torch = pytest.importorskip("torch")
    table = torch.overrides.get_testing_overrides()
    home = torch.nn.functional if ROWS[name].row.get("public") == "nn" else torch
    found = set()
    for owner in (home, torch.Tensor):
        given = table.get(getattr(owner, name, None))
        if given is not None:
            parameters = inspect.signature(given).parameters.values()
            found |= {each.name for each in parameters if each.kind not in (STAR, inspect.Parameter.VAR_KEYWORD)}
    if ROWS[name].row.get("public", True) is True and hasattr(torch, name):
        for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name}"):
            if "Tensor" in str(schema).partition("->")[0] and "Dimname" not in str(schema):
                found |= {each.name for each in schema.arguments}
    return found - {"out"}


def called_by_keyword(op, args, name, ours):
    """The arguments of a call with that of parameter `ours` under the name `name`; None when the call has none."""
    parameters = list(inspect.signature(op).parameters.values())
    places = [each.name for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    if ours not in places or len(args) <= places.index(ours):
        return None
    at = places.index(ours)
    if parameters[at].kind is STAR:
        alone = len(args) == at + 1 and not isinstance(args[at], int)
        return args[:at], {name: args[at] if alone else tuple(args[at:])}
    if any(each.kind is STAR for each in parameters):
        return None
    return args[:at], {name: args[at], **dict(zip(places[at + 1 :], args[at + 1 :], strict=False))}


@pytest.mark.parametrize("name", CHECKED)
def test_arguments_go_by_the_names_of_pytorch(name):
    known = set(inspect.signature(ROWS[name]).parameters)
    for said in sorted(names_in_pytorch(name)):
        ours = said if said in known else OURS.get(f"{name}.{said}", OURS.get(said))
        if said in NOT_TAKEN or f"{name}.{said}" in NOT_TAKEN:
            continue
        assert ours in known, f"{name} of PyTorch has a parameter {said}"
        for call in calls(name):
            args = arguments(call)
            made = called_by_keyword(ROWS[name], args, said, ours)
            if made is None or name == "einsum":
                continue
            positional, keywords = made
            expected = ROWS[name](*args, **call.keywords)
            assert_same(ROWS[name](*positional, **keywords, **call.keywords), expected)
            if ROWS[name].row.get("method") is True and positional:
                method = getattr(positional[0], name)
                assert_same(method(*positional[1:], **keywords, **call.keywords), expected)


@pytest.mark.parametrize(
    ("named", "positional"),
    [
        ("x.cumsum(axis=0)", "x.cumsum(0)"),
        ("x.cumprod(axis=-1)", "x.cumprod(-1)"),
        ("x.softmax(axis=0)", "x.softmax(0)"),
        ("x.log_softmax(axis=1)", "x.log_softmax(1)"),
        ("fx.stack([x, x], axis=1)", "fx.stack([x, x], 1)"),
        ("fx.cat(tensors=[x, x], axis=1)", "fx.cat([x, x], 1)"),
        ("x.topk(2, axis=0)", "x.topk(2, 0)"),
        ("x.sort(axis=0, descending=True)", "x.sort(0, True)"),
        ("x.argsort(axis=0)", "x.argsort(0)"),
        ("x.unbind(axis=1)", "x.unbind(1)"),
        ("x.gather(axis=0, index=i)", "x.gather(0, i)"),
        ("x.take_along_dim(i, axis=0)", "x.take_along_dim(i, 0)"),
        ("x.index_select(axis=1, index=i[0])", "x.index_select(1, i[0])"),
        ("x.squeeze(axis=0)", "x.squeeze(0)"),
        ("x.unsqueeze(axis=1)", "x.unsqueeze(1)"),
        ("x.median(axis=0, keepdims=True)", "x.median(0, True)"),
        ("x.logsumexp(axis=0, keepdims=True)", "x.logsumexp(0, True)"),
        ("x.quantile(0.3, axis=0)", "x.quantile(0.3, 0)"),
        ("fx.sum(x=x, axis=0, keepdims=True)", "x.sum(0, True)"),
        ("fx.sum(a=x, axis=(0, 1))", "x.sum((0, 1))"),
        ("x.std(axis=0, keepdims=True)", "x.std(0, keepdim=True)"),
        ("fx.add(x1=x, x2=x)", "x + x"),
        ("fx.add(x=x, other=2, alpha=3)", "x + 6"),
        ("fx.exp(x1=x)", "x.exp()"),
        ("fx.mul(input=x, x2=x)", "x * x"),
        ("fx.flip(x, dims=[0])", "fx.flip(x, [0])"),
        ("x.flip(dims=(0, 1))", "x.flip(0, 1)"),
        ("fx.flip(dims=(0, 1), input=x)", "x.flip(0, 1)"),
        ("x.permute(dims=(1, 0))", "x.permute(1, 0)"),
        ("x.reshape(shape=(4, 3))", "x.reshape(4, 3)"),
        ("x.view(size=(4, 3))", "x.view(4, 3)"),
        ("x.view(dtype=fx.int32)", "x.view(fx.int32)"),
        ("x.repeat(repeats=(2, 1))", "x.repeat(2, 1)"),
        ("x.tile(dims=(2,))", "x.tile(2)"),
        ("x.expand(size=(2, 3, 4))", "x.expand(2, 3, 4)"),
        ("x.split(split_size=2)", "x.split(2)"),
        ("fx.tensor_split(x, sections=2)", "fx.tensor_split(x, 2)"),
        ("fx.tensor_split(x, indices=(1, 2))", "fx.tensor_split(x, (1, 2))"),
        ("fx.chunk(x, chunks=2, axis=1)", "fx.chunk(x, 2, 1)"),
        ("fx.where(x > 3, x=x, y=-x)", "fx.where(x > 3, x, -x)"),
        ("fx.ones(size=(2, 2))", "fx.ones(2, 2)"),
        ("x.new_zeros(size=(2,))", "x.new_zeros(2)"),
        ("x.clone().fill_(value=2)", "x.clone().fill_(2)"),
        ("x.clone().copy_(other=-x)", "-x"),
        ("x.clone().cumsum_(axis=0)", "x.cumsum(0)"),
        ("x.clone().add_(other=x, alpha=2)", "x * 3"),
        ("x.clone().mul_(x2=x)", "x * x"),
        ("fx.sum(x, axis=0, out=fx.empty(0))", "x.sum(0)"),
        ("fx.diff(x, axis=0)", "fx.diff(x, dim=0)"),
    ],
)
def test_names(named, positional):
    names = {"fx": fx, "x": fx.arange(12.0).reshape(3, 4), "i": fx.tensor([[0, 2, 1, 0]])}
    assert_same(eval(named, names), eval(positional, names))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("fx.flip(x, size=[0])", r"\[flip\] got an unexpected keyword argument 'size'; it takes flip\(input, \*dims\)"),
        ("x.sum(axis=0, dim=1)", r"\[sum\] got both 'axis' and 'dim', which are one argument"),
        ("fx.exp()", r"\[exp\] missing argument 'input'; it takes exp\(input"),
        ("fx.exp(x, x=x)", r"\[exp\] got 'x' twice"),
        ("fx.stack([1.0, 2.0])", r"\[stack\] element 0 of argument 'tensors' must be Tensor, not float"),
        ("fx.stack([x, None])", r"\[stack\] element 1 of argument 'tensors' must be Tensor, not None"),
        ("fx.sum()", r"\[sum\] takes .*; called as sum\(\), it takes sum\(input, dim=None"),
        ("fx.sum([1.0])", r"\[sum\] argument 'input' must be Tensor, not list"),
        ("x.cumsum()", r"\[cumsum\] takes .* called as cumsum\(Tensor\), it takes cumsum\(input, dim"),
        ("x.flip(dims=[0], axis=1)", r"\[flip\] got an unexpected keyword argument 'axis'"),
        ("fx.permute(dims=(1, 0))", r"\[permute\] missing argument 'input'"),
        ("x.permute(1, 0, dims=(1, 0))", r"\[permute\] got 'dims' by position and by keyword"),
    ],
)
def test_what_a_call_that_does_not_fit_is_told(call, said):
    with pytest.raises(TypeError, match=said):
        eval(call, {"fx": fx, "x": fx.ones(2, 3)})


def public_functions():
    for name in dir(fx):
        value = getattr(fx, name)
        if callable(value) and not isinstance(value, type):
            yield f"fx.{name}", value
    for name in fx.nn.functional.__all__:
        yield f"fx.nn.functional.{name}", getattr(fx.nn.functional, name)
    for name in fx.special.__all__:
        yield f"fx.special.{name}", getattr(fx.special, name)


# Those that would wait, read files, or change what other tests see.
LEFT_OUT = {"load", "save", "set_default_dtype", "set_num_threads", "set_printoptions", "manual_seed", "seed",
            "set_rng_state", "set_grad_enabled"}  # fmt: skip
PRIVATE = re.compile(r"(?<![\w.'\"])_[a-z]\w*|ferrox\._core|__pyx|\bcyfunction\b|TensorBase")


def wrong_arguments():
    x = fx.ones(2, 3)
    return [
        ((), {}),
        ((object(),), {}),
        (([1.0, 2.0],), {}),
        (("text",), {}),
        ((None,), {}),
        ((1.5, object()), {}),
        ((x, "text"), {}),
        ((x, x, object()), {}),
        ((x, None, None, None), {}),
        ((x,), {"unheard_of": 1}),
        (([x, 1.0],), {}),
        ((x, 1.5), {}),
        ((x,), {"dim": "text"}),
        ((x,), {"dtype": "text"}),
        ((x,) * 12, {}),
    ]


@pytest.mark.parametrize(
    ("name", "function"), list(public_functions()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_messages_have_public_names(name, function):
    if name.rpartition(".")[2] in LEFT_OUT:
        pytest.skip("changes what other tests see")
    for args, keywords in wrong_arguments():
        try:
            function(*args, **keywords)
        except Exception as error:
            assert not PRIVATE.search(str(error)), f"{args} {keywords}: {error}"


METHODS = [
    name
    for name in dir(fx.Tensor)
    if not name.startswith("_") and callable(getattr(fx.Tensor, name)) and name not in ("backward", "apply_")
]


@pytest.mark.parametrize("name", METHODS)
def test_messages_of_methods_have_public_names(name):
    for args, keywords in wrong_arguments():
        try:
            getattr(fx.ones(2, 3), name)(*args, **keywords)
        except Exception as error:
            assert not PRIVATE.search(str(error)), f"{args} {keywords}: {error}"


class Explodes:
    def __array__(self, dtype=None, copy=None):
        raise TypeError("a user's own words")


def test_a_users_error_passes_as_it_is():
    with pytest.raises(TypeError, match=r"^a user's own words$"):
        fx.tensor(Explodes())


def test_numpy_calls_methods_by_its_own_names():
    values = np.random.default_rng(7).normal(size=(3, 4))
    x = fx.tensor(values)
    for name, options in {
        "mean": {"axis": 0}, "sum": {"axis": 1}, "var": {"axis": 0}, "std": {"ddof": 1}, "prod": {"axis": 0},
        "max": {"axis": 0}, "min": {"axis": 1}, "amax": {}, "any": {"axis": 0}, "all": {}, "argmax": {"axis": 1},
        "argmin": {}, "cumsum": {"axis": 0}, "squeeze": {}, "transpose": {}, "ravel": {}, "sort": {"axis": 0},
        "round": {}, "argsort": {"axis": 0}, "ptp": {"axis": 0}, "diagonal": {}, "cumprod": {"axis": 1},
        "count_nonzero": {}, "nan_to_num": {}, "median": {}, "average": {}, "swapaxes": {"axis1": 0, "axis2": 1},
    }.items():  # fmt: skip
        for given in ({}, options):
            if name == "swapaxes" and not given:
                continue
            np.testing.assert_allclose(
                np.asarray(getattr(np, name)(x, **given)), getattr(np, name)(values, **given), rtol=1e-12, err_msg=name
            )
    np.testing.assert_allclose(np.std(x), values.std())
    np.testing.assert_allclose(np.std(x, axis=0, keepdims=True), values.std(0, keepdims=True))
    np.testing.assert_allclose(np.var(x, ddof=2), values.var(ddof=2))
    np.testing.assert_allclose(np.clip(x, -0.5, 0.5), values.clip(-0.5, 0.5))
    np.testing.assert_allclose(np.reshape(x, (4, 3)), values.reshape(4, 3))
    np.testing.assert_allclose(np.repeat(x, 2, axis=1), values.repeat(2, axis=1))
    assert np.reshape(fx.ones(4, requires_grad=True), (2, 2)).requires_grad
