"""What lies on different devices: indices that come along, gradients and values that may not, and generators."""

import numpy as np
import pytest

import ferrox as fx
from ferrox.nn import functional as F

INDICES = {
    "list": lambda c: [2, 0],
    "mask as list": lambda c: [True, False, True],
    "range": lambda c: range(2),
    "array": lambda c: np.array([[0, 2], [1, 1]]),
    "tensor": lambda c: fx.tensor([2, 0, 2]),
    "last": lambda c: (slice(None), fx.tensor([3, 0])),
    "two": lambda c: ([0, 2], fx.tensor([1, 3])),
    "mask": lambda c: c > 0,
    "rows": lambda c: c.sum(1) > 0,
}


@pytest.fixture(params=["cuda", "auto"])
def place(request):
    return request.param


@pytest.mark.parametrize("kind", INDICES)
def test_indices_of_the_cpu(kind, place):
    array = np.random.default_rng(0).standard_normal((3, 4)).astype("f4")
    c = fx.tensor(array)
    index = INDICES[kind](c)
    plain = tuple(np.asarray(i) if not isinstance(i, slice) else i for i in index) if isinstance(index, tuple) \
        else np.asarray(index)  # fmt: skip
    x = c.to(place).requires_grad_()
    got = x[index]
    assert got.device == x.device
    np.testing.assert_array_equal(got.detach().cpu().numpy(), array[plain])
    got.square().sum().backward()
    slopes = np.zeros_like(array)
    np.add.at(slopes, plain, 2 * array[plain])
    np.testing.assert_allclose(x.grad.cpu().numpy(), slopes, rtol=1e-6)

    y, expected = x.detach().clone(), array.copy()
    y[index] = 7.0
    expected[plain] = 7
    np.testing.assert_array_equal(y.cpu().numpy(), expected)
    values = np.random.default_rng(1).standard_normal(array[plain].shape).astype("f4")
    y[index] = fx.tensor(values).to(place)
    expected[plain] = values
    if kind != "tensor":  # with an index twice, which value stays is open
        np.testing.assert_array_equal(y.cpu().numpy(), expected)


def test_values_without_dimensions_come_along():
    c, x = fx.zeros(4), fx.arange(4.0, device="cuda").requires_grad_()
    c[fx.tensor([1, 2])] = x.detach()[3]
    c[0] = x.detach()[2]
    assert c.tolist() == [2, 3, 3, 0]
    y = fx.zeros(3)
    y[[0, 2]] = x[3]
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 0, 2]
    with pytest.raises(RuntimeError, match="same device"):
        c[fx.tensor([1, 2])] = x.detach()[:2]
    with pytest.raises(RuntimeError, match="same device"):
        c[fx.tensor([1, 2], device="cuda")]


def test_gradients_stay_on_their_device():
    x = fx.ones(2, 3, device="cuda", requires_grad=True)
    c = fx.ones(2, 3)

    class Away(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g.cpu()

    hooked = x.detach().clone().requires_grad_()
    hooked.register_hook(lambda g: g.cpu())
    for wrong, said in (
        (lambda: (x * 2).backward(c), "gradient on cpu was given for an output on cuda:0"),
        (lambda: x.sum().backward(fx.tensor(2.0)), "gradient on cpu was given for an output on cuda:0"),
        (lambda: fx.autograd.grad(x * 2, x, c), "gradient on cpu was given for an output on cuda:0"),
        (lambda: Away.apply(x).sum().backward(), "at index 0 - expected device cuda:0 but got cpu"),
        (lambda: Away.apply(x * 1).sum().backward(), "at index 0 - expected device cuda:0 but got cpu"),
        (lambda: (hooked * 2).sum().backward(), "it is on cuda:0, returned was one on cpu"),
    ):
        with pytest.raises(RuntimeError, match=said):
            wrong()
    assert x.grad is None and hooked.grad is None


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_draws_again_what_it_drew(place, use_reentrant):
    x = fx.ones(100, device=place, requires_grad=True)
    y = fx.utils.checkpoint.checkpoint(lambda x: F.dropout(x, 0.5), x, use_reentrant=use_reentrant)
    later = fx.rand(3, device=place)
    y.sum().backward()
    assert 0 < (y != 0).sum().item() < 100
    assert ((x.grad != 0) == (y != 0)).all().item()
    assert (fx.rand(3, device=place) != later).all().item()


@pytest.mark.usefixtures("cached")
def test_a_captured_checkpoint_draws_again_what_it_drew():
    x = fx.ones(100, device="cuda", requires_grad=True)

    def step():
        x.grad = None
        y = fx.utils.checkpoint.checkpoint(lambda x: F.dropout(x, 0.5), F.dropout(x, 0.1), use_reentrant=False)
        y.sum().backward()
        return y, x.grad

    side = fx.cuda.Stream()
    with fx.cuda.stream(side):
        step()
    fx.cuda.current_stream().wait_stream(side)
    graph = fx.cuda.CUDAGraph()
    with fx.cuda.graph(graph):
        y, g = step()
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append((y != 0).tolist())
        assert ((g != 0) == (y != 0)).all().item() and 0 < sum(seen[-1]) < 100
    assert seen[0] != seen[1] != seen[2]


def test_what_may_not_be_mixed_is_named():
    x = fx.ones(3, 4, device="cuda")
    q = fx.ones(1, 1, 4, 8, device="cuda")
    net = fx.nn.Linear(3, 2).cuda()
    optimiser = fx.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(x[:, :3]).sum().backward()
    optimiser.step()
    net.cpu()
    net.zero_grad()
    net(fx.ones(2, 3)).sum().backward()
    for wrong in (
        lambda: F.prelu(x, fx.tensor([0.5])),
        lambda: fx.meshgrid(x[0], fx.ones(2)),
        lambda: F.scaled_dot_product_attention(q, q.cpu(), q),
    ):
        with pytest.raises(RuntimeError, match=r"same device.*cuda:0.*cpu"):
            wrong()
    with pytest.raises(ValueError, match=r"momentum_buffer of parameter 0.*expected device cpu, got cuda:0"):
        optimiser.step()
    with pytest.raises(TypeError, match="expected a Stream, got int"):
        fx.cuda.stream(3)


def test_generators_belong_to_one_gpu():
    if fx.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    with pytest.raises(RuntimeError, match="generator on cuda:1 but found one on cuda:0"):
        fx.randn(2, device="cuda:1", generator=fx.Generator("cuda:0"))
    states = fx.cuda.get_rng_state_all()
    first = [fx.rand(3, device=f"cuda:{k}").tolist() for k in range(2)]
    fx.cuda.set_rng_state_all(states)
    assert first == [fx.rand(3, device=f"cuda:{k}").tolist() for k in range(2)]


def test_the_name_of_a_type_leads_back_to_it():
    x = fx.ones(2, device="cuda")
    assert x.type() == "ferrox.cuda.FloatTensor"
    assert x.cpu().type(x.type()).device == x.device
    assert x.type("torch.DoubleTensor").device.type == "cpu" and x.type("torch.DoubleTensor").dtype is fx.float64
    assert x.type(x.type()) is x and x.type(fx.int32).device == x.device


def test_loading_without_a_gpu_says_how(tmp_path, python):
    fx.save({"x": fx.ones(2, device="cuda")}, tmp_path / "x.safetensors")
    load = "import ferrox as fx\ntry: fx.load('x.safetensors')\nexcept RuntimeError as error: print(error)\n"
    load += "print(fx.load('x.safetensors', map_location='cpu'))"
    said = python(load, FXSIM_DEVICES="0", CUDA_VISIBLE_DEVICES="")
    assert "tensors of cuda:0" in said and 'map_location="cpu"' in said and "tensor([1., 1.])" in said
