"""Layers, losses and helpers against PyTorch's: values, gradients, state, printing."""

import math

import pytest
from peers import torch

import ferrox as fx
from ferrox import nn


def to_ours(tensor, requires_grad=False):
    name = str(tensor.dtype).split(".")[1]
    ours = fx.tensor(tensor.detach().tolist(), dtype=getattr(fx, name)).reshape(tuple(tensor.shape))
    return ours.requires_grad_(requires_grad)


def to_theirs(tensor, like):
    return torch.tensor(tensor.detach().tolist(), dtype=like.dtype).reshape(like.shape)


def assert_same(ours, theirs, rtol=1e-10):
    if theirs is None:
        assert ours is None
        return
    assert tuple(ours.shape) == tuple(theirs.shape)
    torch.testing.assert_close(to_theirs(ours, theirs), theirs.detach(), rtol=rtol, atol=rtol, equal_nan=True)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ints(high, *shape, seed=0):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def compare(mine, other, inputs, rtol=1e-10):
    """Same value, and same gradients of floating-point inputs, for a random cotangent."""
    theirs = [x.clone().requires_grad_(x.is_floating_point()) if isinstance(x, torch.Tensor) else x for x in inputs]
    ours = [to_ours(x, x.is_floating_point()) if isinstance(x, torch.Tensor) else x for x in inputs]
    out, expected = mine(*ours), other(*theirs)
    assert_same(out, expected, rtol)
    if not expected.requires_grad:
        return
    cotangent = rand(*expected.shape, seed=99)
    expected.backward(cotangent)
    out.backward(to_ours(cotangent))
    for x, y in zip(ours, theirs, strict=True):
        if isinstance(y, torch.Tensor) and y.is_floating_point():
            if y.grad is None:
                assert x.grad is None
            else:
                assert_same(x.grad, y.grad, rtol)


LAYERS = [
    ("Linear", (4, 3), {}, (5, 4)),
    ("Linear", (4, 3), {"bias": False}, (2, 5, 4)),
    ("Identity", (), {}, (3,)),
    ("Flatten", (), {}, (2, 3, 4)),
    ("Flatten", (0, 1), {}, (2, 3, 4)),
    ("Unflatten", (1, (2, 3)), {}, (4, 6)),
    ("BatchNorm1d", (4,), {}, (6, 4)),
    ("BatchNorm1d", (4,), {"momentum": None}, (6, 4, 5)),
    ("BatchNorm1d", (4,), {"affine": False, "track_running_stats": False}, (6, 4)),
    ("BatchNorm2d", (3,), {"momentum": 0.3, "eps": 1e-3, "bias": False}, (2, 3, 4, 5)),
    ("LayerNorm", (4,), {}, (3, 4)),
    ("LayerNorm", ((3, 4),), {"bias": False, "eps": 1e-2}, (2, 3, 4)),
    ("LayerNorm", (4,), {"elementwise_affine": False}, (2, 3, 4)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    ("GroupNorm", (3, 6), {"affine": False}, (3, 6)),
    ("InstanceNorm1d", (3,), {"affine": True}, (2, 3, 5)),
    ("InstanceNorm2d", (3,), {"track_running_stats": True}, (2, 3, 4, 5)),
    ("InstanceNorm1d", (3,), {}, (3, 5)),
    ("RMSNorm", (4,), {}, (3, 4)),
    ("RMSNorm", ((3, 4),), {"eps": 0.1, "elementwise_affine": False}, (2, 3, 4)),
    ("Dropout", (0.0,), {}, (3, 4)),
    ("Dropout1d", (0.0,), {}, (3, 4, 2)),
    ("ReLU", (), {}, (3, 4)),
    ("ReLU6", (), {}, (3, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("PReLU", (), {}, (3, 4)),
    ("PReLU", (4, 0.1), {}, (3, 4, 2)),
    ("ELU", (0.7,), {}, (3, 4)),
    ("SELU", (), {}, (3, 4)),
    ("CELU", (0.7,), {}, (3, 4)),
    ("GELU", (), {}, (3, 4)),
    ("GELU", ("tanh",), {}, (3, 4)),
    ("SiLU", (), {}, (3, 4)),
    ("Mish", (), {}, (3, 4)),
    ("Softplus", (2.0, 1.0), {}, (3, 4)),
    ("Softsign", (), {}, (3, 4)),
    ("Hardtanh", (-0.5, 0.3), {}, (3, 4)),
    ("Hardsigmoid", (), {}, (3, 4)),
    ("Hardswish", (), {}, (3, 4)),
    ("LogSigmoid", (), {}, (3, 4)),
    ("Tanhshrink", (), {}, (3, 4)),
    ("Softshrink", (0.3,), {}, (3, 4)),
    ("Hardshrink", (0.3,), {}, (3, 4)),
    ("Threshold", (0.1, 20.0), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("GLU", (), {}, (3, 4)),
    ("GLU", (0,), {}, (4, 3)),
    ("Softmax", (1,), {}, (3, 4)),
    ("LogSoftmax", (0,), {}, (3, 4)),
    ("Softmin", (1,), {}, (3, 4)),
    ("Softmax2d", (), {}, (2, 3, 4, 5)),
]


# PyTorch keeps a constant of these in float32, whatever the dtype.
FLOAT_CONSTANTS = ("CELU", "Hardsigmoid")



@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS)
def test_layers(name, args, kwargs, shape):
    other = getattr(torch.nn, name)(*args, **kwargs).double()
    mine = getattr(nn, name)(*args, **kwargs).double()
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    for i, p in enumerate(other.parameters()):
        p.data = rand(*p.shape, seed=50 + i)
    mine.load_state_dict({key: to_ours(value) for key, value in other.state_dict().items()})
    for step in range(3):
        if step == 2:
            mine.eval()
            other.eval()
        compare(mine, other, [rand(*shape, seed=step)], rtol=1e-6 if name in FLOAT_CONSTANTS else 1e-10)
        for (key, p), q in zip(mine.state_dict().items(), other.state_dict().values(), strict=True):
            assert_same(p, q), key
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        assert_same(p.grad, q.grad)


def test_bilinear():
    other, mine = torch.nn.Bilinear(3, 4, 2).double(), nn.Bilinear(3, 4, 2).double()
    assert repr(mine) == repr(other)
    mine.load_state_dict({key: to_ours(value) for key, value in other.state_dict().items()})
    compare(mine, other, [rand(5, 3), rand(5, 4, seed=1)])
    compare(mine, other, [rand(2, 5, 3), rand(2, 5, 4, seed=1)])
    assert_same(mine.weight.grad, other.weight.grad)
    with pytest.raises(RuntimeError, match="input1 size does not match weight size: got 2 but expected 3"):
        mine(fx.zeros(1, 2), fx.zeros(1, 4))


@pytest.mark.parametrize(
    "options",
    [{}, {"padding_idx": -2}, {"max_norm": 0.8}, {"max_norm": 0.8, "norm_type": 1.0}, {"scale_grad_by_freq": True}],
)
def test_embedding(options):
    other, mine = torch.nn.Embedding(6, 3, **options).double(), nn.Embedding(6, 3, **options).double()
    assert repr(mine) == repr(other)
    mine.load_state_dict({key: to_ours(value) for key, value in other.state_dict().items()})
    index = torch.tensor([[1, 4, 4], [0, 1, 1]])
    compare(mine, other, [index])
    assert_same(mine.weight, other.weight)
    assert_same(mine.weight.grad, other.weight.grad)
    fresh = nn.Embedding(4, 2, padding_idx=1)
    assert fresh.weight[1].tolist() == [0.0, 0.0]
    table = fx.ones(3, 2)
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad
    assert frozen(fx.tensor([2])).tolist() == [[1.0, 1.0]]


N, C = 6, 4
SIGNS = ints(2, N, C) * 2 - 1
LABELS = ints(C, N)
LABELS[2] = 1
LOSSES = [
    ("MSELoss", {}, [rand(N, C), rand(N, C, seed=1)]),
    ("L1Loss", {}, [rand(N, C), rand(N, C, seed=1)]),
    ("SmoothL1Loss", {"beta": 0.7}, [rand(N, C), rand(N, C, seed=1)]),
    ("HuberLoss", {"delta": 0.7}, [rand(N, C), rand(N, C, seed=1)]),
    ("BCELoss", {}, [rand(N, C).sigmoid(), rand(N, C, seed=1).sigmoid()]),
    ("BCELoss", {"weight": rand(C).abs()}, [rand(N, C).sigmoid(), rand(N, C, seed=1).sigmoid()]),
    ("BCEWithLogitsLoss", {}, [rand(N, C), rand(N, C, seed=1).sigmoid()]),
    (
        "BCEWithLogitsLoss",
        {"weight": rand(C).abs(), "pos_weight": rand(C, seed=2).abs()},
        [rand(N, C), rand(N, C, seed=1).sigmoid()],
    ),
    ("NLLLoss", {}, [rand(N, C).log_softmax(1), LABELS]),
    ("NLLLoss", {"weight": rand(C).abs(), "ignore_index": 1}, [rand(N, C).log_softmax(1), LABELS]),
    ("CrossEntropyLoss", {}, [rand(N, C), LABELS]),
    ("CrossEntropyLoss", {"label_smoothing": 0.2, "ignore_index": 1}, [rand(N, C), LABELS]),
    ("CrossEntropyLoss", {"weight": rand(C).abs(), "label_smoothing": 0.2}, [rand(N, C), LABELS]),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, [rand(N, C), rand(N, C, seed=1).softmax(1)]),
    ("CrossEntropyLoss", {}, [rand(N, C, 3), ints(C, N, 3)]),
    ("KLDivLoss", {}, [rand(N, C).log_softmax(1), rand(N, C, seed=1).softmax(1)]),
    ("KLDivLoss", {"log_target": True}, [rand(N, C).log_softmax(1), rand(N, C, seed=1).log_softmax(1)]),
    ("HingeEmbeddingLoss", {"margin": 0.6}, [rand(N, C), SIGNS]),
    ("MarginRankingLoss", {"margin": 0.3}, [rand(N, C), rand(N, C, seed=1), SIGNS]),
    ("CosineEmbeddingLoss", {"margin": 0.1}, [rand(N, C), rand(N, C, seed=1), SIGNS[:, 0]]),
    ("TripletMarginLoss", {}, [rand(N, C), rand(N, C, seed=1), rand(N, C, seed=2)]),
    ("TripletMarginLoss", {"swap": True, "p": 1, "margin": 2.0}, [rand(N, C), rand(N, C, seed=1), rand(N, C, seed=2)]),
    ("TripletMarginWithDistanceLoss", {"swap": True}, [rand(N, C), rand(N, C, seed=1), rand(N, C, seed=2)]),
    ("GaussianNLLLoss", {}, [rand(N, C), rand(N, C, seed=1), rand(N, C, seed=2).abs()]),
    ("GaussianNLLLoss", {"full": True, "eps": 0.4}, [rand(N, C), rand(N, C, seed=1), rand(N, 1, seed=2).abs()]),
    ("GaussianNLLLoss", {}, [rand(N, C), rand(N, C, seed=1), rand(N, seed=2).abs()]),
    ("PoissonNLLLoss", {}, [rand(N, C), rand(N, C, seed=1).abs() * 4]),
    ("PoissonNLLLoss", {"log_input": False, "full": True}, [rand(N, C).abs(), rand(N, C, seed=1).abs() * 4]),
    ("SoftMarginLoss", {}, [rand(N, C) * 30, SIGNS.double()]),
    ("MultiMarginLoss", {}, [rand(N, C), LABELS]),
    ("MultiMarginLoss", {"p": 2, "margin": 0.5, "weight": rand(C).abs()}, [rand(N, C), LABELS]),
    ("MultiMarginLoss", {}, [rand(C), torch.tensor(2)]),
    ("MultiLabelMarginLoss", {}, [rand(3, C), torch.tensor([[3, 0, -1, 1], [-1, 0, 0, 0], [0, 1, 2, 3]])]),
    ("MultiLabelMarginLoss", {}, [rand(C), torch.tensor([2, -1, 1, 0])]),
    ("MultiLabelSoftMarginLoss", {}, [rand(N, C) * 30, ints(2, N, C).double()]),
    ("MultiLabelSoftMarginLoss", {"weight": rand(C).abs()}, [rand(N, C), ints(2, N, C).double()]),
]


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("case", range(len(LOSSES)))
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(case, reduction):
    name, options, inputs = LOSSES[case]
    if name == "KLDivLoss" and reduction == "mean":
        compare_losses(name, options, inputs, "batchmean")
    compare_losses(name, options, inputs, reduction)


def compare_losses(name, options, inputs, reduction):
    ours = {key: to_ours(value) if isinstance(value, torch.Tensor) else value for key, value in options.items()}
    mine = getattr(nn, name)(reduction=reduction, **ours)
    other = getattr(torch.nn, name)(reduction=reduction, **options)
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    if name == "SoftMarginLoss":  # PyTorch has no gradient for its target
        x, target = inputs
        compare(lambda x: mine(x, to_ours(target)), lambda x: other(x, target), [x])
    else:
        compare(mine, other, inputs)


def test_loss_arguments():
    F = nn.functional
    x = fx.zeros(2, 3)
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    for call, error, message in (
        (lambda: F.kl_div(x, x, reduction="median"), ValueError, "median is not a valid value for reduction"),
        (lambda: nn.TripletMarginLoss(margin=0.0), ValueError, "margin to be greater than 0"),
        (lambda: F.triplet_margin_loss(x, x, x[0]), RuntimeError, "same number of dimensions"),
        (lambda: F.margin_ranking_loss(x, x, x[0]), RuntimeError, "same dimension but got sizes"),
        (lambda: F.cosine_embedding_loss(x, x, fx.ones(())), RuntimeError, "0D target tensor expects 1D input"),
        (lambda: F.gaussian_nll_loss(x, x, -fx.ones(2, 3)), ValueError, "negative entry"),
        (lambda: F.gaussian_nll_loss(x, x, fx.ones(5)), ValueError, "incorrect size"),
        (lambda: F.multi_margin_loss(x, fx.tensor([0, 1]), p=3), ValueError, "only p == 1 and p == 2"),
        (lambda: F.glu(x), RuntimeError, "Halving dimension must be even, but dimension -1 is size 3"),
        (lambda: F.alpha_dropout(x, 1.5), ValueError, "between 0 and 1, but got 1.5"),
        (lambda: F.dropout1d(fx.zeros(1, 2, 3, 4)), RuntimeError, "Expected 2D or 3D input"),
        (lambda: F.group_norm(x, 2), RuntimeError, "divisible by num_groups"),
        (lambda: nn.Dropout(-0.1), ValueError, "between 0 and 1"),
        (lambda: nn.GroupNorm(2, 3), ValueError, "must be divisible"),
        (lambda: nn.BatchNorm1d(3)(fx.zeros(3)), ValueError, "expected 2D or 3D input"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), AssertionError, "within num_embeddings"),
        (lambda: nn.Embedding(3, 2, sparse=True), ValueError, "sparse"),
        (lambda: F.one_hot(fx.tensor([3]), 3), RuntimeError, "smaller than num_classes"),
        (lambda: F.one_hot(fx.tensor([-1])), RuntimeError, "non-negative"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_functions():
    F, G = nn.functional, torch.nn.functional
    x = rand(3, 4)
    x[1] = 0
    for p, dim in ((2.0, 1), (1.0, 0), (3.0, -1), (math.inf, 1)):
        compare(
            lambda t, p=p, dim=dim: F.normalize(t, p, dim), lambda t, p=p, dim=dim: G.normalize(t, p, dim), [x + 0.1]
        )
    assert_same(F.normalize(to_ours(x)), G.normalize(x))
    compare(F.cosine_similarity, G.cosine_similarity, [rand(3, 4), rand(3, 4, seed=1)])
    compare(F.cosine_similarity, G.cosine_similarity, [rand(3, 4), rand(1, 4, seed=1)])
    assert_same(F.cosine_similarity(to_ours(x), to_ours(x)), G.cosine_similarity(x, x))
    for p in (1.0, 2.0, 3.0):
        args = [rand(3, 4), rand(3, 4, seed=1), p]
        compare(F.pairwise_distance, G.pairwise_distance, args)
    for classes in (-1, 7):
        index = ints(5, 2, 3)
        assert F.one_hot(to_ours(index), classes).tolist() == G.one_hot(index, classes).tolist()
    assert tuple(F.one_hot(fx.zeros(0, dtype=fx.int64), 3).shape) == (0, 3)


def test_random_layers():
    F = nn.functional
    fx.manual_seed(0)
    x = fx.ones(200, 50, 4)
    for layer in (nn.Dropout1d(0.25), nn.Dropout2d(0.25)):
        out = layer(x if isinstance(layer, nn.Dropout1d) else x.unsqueeze(-1)).reshape(200, 50, 4)
        assert ((out == out[:, :, :1]).all()).item(), "whole channels"
        assert sorted(set(out.reshape(-1).tolist())) == pytest.approx([0.0, 4 / 3])
        assert abs((out[:, :, 0] == 0).float().mean().item() - 0.25) < 0.02
    normal = fx.randn(100_000)
    for p in (0.1, 0.5):
        out = nn.AlphaDropout(p)(normal)
        assert abs(out.mean().item()) < 0.03
        assert abs(out.std().item() - 1) < 0.03
        assert nn.AlphaDropout(p).eval()(normal).tolist() == normal.tolist()
    assert set(F.dropout1d(x, 1.0).reshape(-1).tolist()) == {0.0}
    assert set(F.alpha_dropout(normal[:9], 1.0, True).tolist()) <= {0.0, -0.0}
    inplace = fx.ones(3, 4, 5)
    assert F.dropout1d(inplace, 0.5, True, True).data_ptr() == inplace.data_ptr()
    logits = fx.tensor([[0.0, math.log(3.0)]]).expand(20_000, 2).clone().requires_grad_()
    hard = F.gumbel_softmax(logits, hard=True)
    assert abs(hard[:, 1].mean().item() - 0.75) < 0.02
    assert hard.sum(1).tolist() == pytest.approx([1.0] * 20_000)
    hard[:, 1].sum().backward()
    assert logits.grad.abs().sum().item() > 0
    soft = F.gumbel_softmax(logits, tau=0.5)
    assert soft.sum(1).tolist() == pytest.approx([1.0] * 20_000, rel=1e-5)


INITS = [
    ("uniform_", (), {"a": -2.0, "b": 3.0}),
    ("normal_", (), {"mean": 1.0, "std": 2.0}),
    ("trunc_normal_", (), {"std": 2.0, "a": -1.0, "b": 3.0}),
    ("xavier_uniform_", (), {"gain": 1.5}),
    ("xavier_normal_", (), {}),
    ("kaiming_uniform_", (), {"a": 0.3}),
    ("kaiming_uniform_", (), {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", (), {"nonlinearity": "tanh"}),
    ("sparse_", (0.3,), {"std": 1.0}),
]


@pytest.mark.parametrize(("name", "args", "options"), INITS)
def test_initial_distributions(name, args, options):
    fx.manual_seed(1)
    torch.manual_seed(1)
    ours = getattr(nn.init, name)(fx.empty(200, 300), *args, **options).reshape(-1)
    theirs = getattr(torch.nn.init, name)(torch.empty(200, 300), *args, **options).reshape(-1)
    quantiles = [i / 20 for i in range(1, 20)]
    mine = torch.tensor(sorted(ours.tolist()))
    spread = theirs.std().item()
    for q in quantiles:
        assert abs(mine.quantile(q).item() - theirs.quantile(q).item()) < 0.03 * spread
    assert abs(ours.std().item() / spread - 1) < 0.02


def test_fixed_initial_values():
    assert nn.init.constant_(fx.empty(2), 3.0).tolist() == [3.0, 3.0]
    assert nn.init.ones_(fx.empty(2)).tolist() == [1.0, 1.0]
    assert nn.init.zeros_(fx.empty(2)).tolist() == [0.0, 0.0]
    assert nn.init.eye_(fx.empty(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    for shape, groups in (((4, 2, 3), 1), ((4, 2, 3, 3), 2), ((6, 2, 1, 2, 3), 3)):
        expected = torch.nn.init.dirac_(torch.empty(shape), groups)
        assert nn.init.dirac_(fx.empty(shape), groups).tolist() == expected.tolist()
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        nn.init.calculate_gain("cosine")
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        nn.init.xavier_uniform_(fx.empty(3))
    with pytest.raises(ValueError, match="Mode fan not supported"):
        nn.init.kaiming_uniform_(fx.empty(3, 3), mode="fan")


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_default_initial_values():
    fx.manual_seed(0)
    layer = nn.Linear(100, 200)
    for values in (layer.weight, layer.bias):
        assert values.abs().max().item() <= 0.1
        assert abs(values.std().item() - 0.1 / math.sqrt(3)) < 0.006
    assert abs(nn.Embedding(200, 100).weight.std().item() - 1) < 0.02
    assert nn.Bilinear(25, 4, 50).weight.abs().max().item() <= 0.2
    assert nn.Linear(0, 3).bias.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(norm_type, max_norm):
    grads = [rand(3, 4), rand(5, seed=1), rand(seed=2)]
    theirs = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads] + [torch.nn.Parameter(torch.zeros(2))]
    ours = [nn.Parameter(to_ours(p)) for p in theirs]
    for p, q, grad in zip(ours, theirs, grads, strict=False):
        p.grad, q.grad = to_ours(grad), grad.clone()
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert_same(nn.utils.clip_grad_norm_(iter(ours), max_norm, norm_type), expected)
    for p, q in zip(ours, theirs, strict=True):
        assert_same(p.grad, q.grad)
    nn.utils.clip_grad_value_(ours, 0.1)
    torch.nn.utils.clip_grad_value_(theirs, 0.1)
    for p, q in zip(ours, theirs, strict=True):
        assert_same(p.grad, q.grad)


def test_clip_grad_norm_of_nan():
    p = nn.Parameter(fx.zeros(2))
    p.grad = fx.tensor([math.nan, 1.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert math.isnan(nn.utils.clip_grad_norm_(p, 1.0).item())


def test_vectors():
    layer = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.tolist() == layer.weight.reshape(-1).tolist() + layer.bias.tolist()
    nn.utils.vector_to_parameters(fx.arange(8.0), layer.parameters())
    assert layer.weight.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert layer.bias.tolist() == [6.0, 7.0]
    assert layer.weight.is_leaf


def test_printing():
    def build(lib):
        return lib.nn.ModuleDict(
            {
                "blocks": lib.nn.ModuleList([lib.nn.Linear(2, 2), lib.nn.Linear(2, 2), lib.nn.ReLU(inplace=True)]),
                "head": lib.nn.Sequential(lib.nn.Dropout(0.1), lib.nn.Sequential(lib.nn.GELU())),
                "empty": lib.nn.ModuleList(),
                "norm": lib.nn.LayerNorm(3),
            }
        )

    assert repr(build(fx)) == repr(build(torch))


def test_weights_move_both_ways():
    def build(lib):
        return lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4), lib.nn.PReLU())

    mine, other = build(fx), build(torch)
    mine.load_state_dict(other.state_dict())
    for p, q in zip(mine.state_dict().values(), other.state_dict().values(), strict=True):
        assert_same(p, q)
    assert mine[0].weight.data_ptr() != other[0].weight.data_ptr()
