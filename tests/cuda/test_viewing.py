"""Seeing, printing, saving and pickling what lies on a GPU, and finding its NaNs."""

import copy
import json
import pickle
import xml.etree.ElementTree

import numpy as np
import pytest

import ferrox as fx

quietly = pytest.mark.filterwarnings("ignore:Anomaly Detection")


def graph():
    params = {"w": fx.ones(4, 2, device="cuda", requires_grad=True), "b": fx.ones(2, requires_grad=True)}
    x = fx.ones(3, 4, device="cuda")
    return (x @ params["w"] + params["b"].to("cuda")).tanh().sum(), params


def test_labels_name_the_device():
    y, params = graph()
    assert fx.viz.to_text(y, params).splitlines() == [
        "sum #7  () float32 cuda:0",
        "tanh #6  (3, 2) float32 cuda:0, keeps 24 B",
        "add #5  (3, 2) float32 cuda:0",
        "├─ matmul #2  (3, 2) float32 cuda:0, keeps 48 B",
        "│  ├─ constant #0  (3, 4) float32 cuda:0, no grad",
        "│  └─ w #1  (4, 2) float32 cuda:0, leaf",
        "└─ _to_device #4  (2,) float32 cuda:0",
        "   b #3  (2,) float32, leaf",
    ]
    nodes = {node["name"]: node for node in json.loads(fx.viz.to_json(y, params))["nodes"]}
    assert {name: node["device"] for name, node in nodes.items()} == {
        "constant": "cuda:0", "w": "cuda:0", "matmul": "cuda:0", "b": "cpu", "_to_device": "cuda:0", "add": "cuda:0",
        "tanh": "cuda:0", "sum": "cuda:0"}
    assert "#1 w\\n(4, 2) float32 cuda:0\\nrequires grad" in fx.viz.to_dot(y, params)
    assert "#3 b\\n(2,) float32\\nrequires grad" in fx.viz.to_dot(y, params)
    assert "#35;6 tanh<br/>(3, 2) float32 cuda:0<br/>requires grad" in fx.viz.to_mermaid(y, params)
    picture = xml.etree.ElementTree.fromstring(fx.viz.to_svg(y, params))
    assert sum("cuda:0" in (each.text or "") for each in picture.iter("{http://www.w3.org/2000/svg}text")) == 7
    assert "cuda:0" in fx.viz.to_html(y, params, title="Graph")
    assert y.grad_fn.device == fx.device("cuda:0")


@pytest.mark.parametrize("suffix", ["dot", "gv", "mmd", "mermaid", "json", "txt", "svg", "html", "htm"])
def test_every_format_is_written(tmp_path, suffix):
    y, params = graph()
    path = fx.viz.save({"loss": y}, tmp_path / f"graph.{suffix}", params)
    assert "cuda:0" in path.read_text()


def test_the_second_device_is_named(simulator):
    x = fx.ones(2, device="cuda:1", requires_grad=True)
    assert fx.viz.to_text(x.exp(), {"x": x}).splitlines() == [
        "exp #1  (2,) float32 cuda:1, keeps 8 B", "x #0  (2,) float32 cuda:1, leaf"]


@quietly
def test_anomaly_in_forward():
    x = fx.tensor([-1.0, 4.0], device="cuda", requires_grad=True)
    with fx.autograd.detect_anomaly():
        y = x * 2.0
        with pytest.raises(RuntimeError) as error:
            z = y.log()     # makes the NaN on the GPU
            z.sum().backward()
    text = str(error.value)
    assert text.startswith("[log] Function 'log' returned nan values in forward")
    assert "z = y.log()     # makes the NaN on the GPU" in text and "test_viewing.py" in text


@quietly
def test_anomaly_in_backward():
    x = fx.tensor([0.0, 4.0], device="cuda", requires_grad=True)
    with fx.autograd.detect_anomaly():
        y = x.sqrt()        # its gradient is infinite at 0, on the GPU
        with pytest.raises(RuntimeError) as error:
            (y * 0.0).sum().backward()
    text = str(error.value)
    assert text.startswith("[sqrt]") and "returned nan values in its 0th output" in text
    assert "y = x.sqrt()        # its gradient is infinite at 0, on the GPU" in text


@quietly
@pytest.mark.parametrize("dtype", [fx.float16, fx.bfloat16, fx.float32, fx.float64])
def test_anomaly_by_dtype_and_layout(dtype):
    x = fx.tensor([[0.0, 1.0], [1.0, 2.0]], dtype=dtype, device="cuda")
    with fx.autograd.detect_anomaly():
        (x.t() + 1).log()
        with pytest.raises(RuntimeError, match=r"\[div\] Function 'div' returned nan"):
            x.t() / x[0, 0]
        with pytest.raises(RuntimeError, match=r"\[log\] .*of shape \(2, 2\)"):
            (x.t() - 3.0).log()


@quietly
def test_nan_in_the_data_is_nobodys_fault():
    x = fx.tensor([float("nan"), 1.0], device="cuda", requires_grad=True)
    with fx.autograd.detect_anomaly():
        y = x * float("nan") + x.narrow(0, 0, 1)
        n = fx.ones(3, dtype=fx.int64, device="cuda") * 2
    assert y.isnan().all() and n.tolist() == [2, 2, 2]
    assert not fx.autograd.is_anomaly_enabled()


@quietly
def test_anomaly_leaves_good_work_alone():
    def gradient():
        w = fx.ones(4, 3, device="cuda", requires_grad=True)
        (fx.arange(8.0, device="cuda").reshape(2, 4) @ w).tanh().sum().backward()
        return w.grad.tolist()

    plain = gradient()
    with fx.autograd.detect_anomaly():
        assert gradient() == plain


def test_printing():
    def on_gpu(*args, **kwargs):
        return fx.tensor(*args, device="cuda", **kwargs)

    assert repr(on_gpu([1.5, 2.0])) == "tensor([1.5000, 2.0000], device='cuda:0')"
    assert repr(on_gpu(3)) == "tensor(3, device='cuda:0')"
    assert repr(on_gpu([1, 2], dtype=fx.int32)) == "tensor([1, 2], device='cuda:0', dtype=ferrox.int32)"
    assert repr(on_gpu([1.0], requires_grad=True)) == "tensor([1.], device='cuda:0', requires_grad=True)"
    assert repr(on_gpu([1.0], requires_grad=True) * 2) == "tensor([2.], device='cuda:0', grad_fn=<mul>)"
    assert repr(fx.empty(0, 3, device="cuda")) == "tensor([], device='cuda:0', size=(0, 3))"
    assert repr(on_gpu([[True], [False]]).t()) == "tensor([[ True, False]], device='cuda:0')"
    x = fx.arange(5000.0)
    assert repr(x.to("cuda")) == repr(x)[:-1] + ", device='cuda:0')" and "..." in repr(x)
    assert f"{on_gpu(2.5):.2f}" == "2.50" and str(on_gpu([1.0])) == "tensor([1.], device='cuda:0')"
    assert str(on_gpu([1.0, 2.0]).to(fx.bfloat16)) == "tensor([1., 2.], device='cuda:0', dtype=ferrox.bfloat16)"
    p = fx.nn.Parameter(on_gpu([1.0]))
    assert repr(p) == "Parameter containing:\ntensor([1.], device='cuda:0', requires_grad=True)"
    assert "cuda:0" in on_gpu([1.0])._repr_html_()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(protocol):
    x = fx.arange(12.0, device="cuda").reshape(3, 4).t().requires_grad_()
    again = pickle.loads(pickle.dumps(x, protocol))
    assert again.device == x.device and again.requires_grad and again.is_leaf
    np.testing.assert_array_equal(again.detach().cpu().numpy(), x.detach().cpu().numpy())
    assert again.data_ptr() != x.data_ptr()


def test_copies():
    model = fx.nn.Sequential(fx.nn.Linear(3, 2), fx.nn.BatchNorm1d(2)).to("cuda")
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for name, value in made.state_dict().items():
            ours = model.state_dict()[name]
            assert value.device == ours.device and value.data_ptr() != ours.data_ptr()
            np.testing.assert_array_equal(value.cpu().numpy(), ours.cpu().numpy())
    p = copy.copy(model[0].weight)
    assert p.device == model[0].weight.device and p.data_ptr() == model[0].weight.data_ptr()


def test_saving(tmp_path):
    x = fx.arange(6.0, device="cuda").reshape(2, 3)
    fx.save({"x": x, "t": x.t(), "half": x.to(fx.float16), "empty": x[:0], "on the host": x.cpu(),
             "device": x.device}, tmp_path / "x.safetensors")
    again = fx.load(tmp_path / "x.safetensors")
    assert again["device"] == x.device and again["on the host"].device.type == "cpu"
    for name, wanted in (("x", x), ("t", x.t()), ("half", x.to(fx.float16)), ("empty", x[:0])):
        assert again[name].device == x.device and again[name].dtype == wanted.dtype
        np.testing.assert_array_equal(again[name].cpu().numpy(), wanted.cpu().numpy())


@pytest.mark.parametrize("where", ["cpu", fx.device("cpu"), {"cuda:0": "cpu"}, lambda tensor, saved: tensor])
def test_loading_elsewhere(tmp_path, where):
    x = fx.arange(6.0, device="cuda")
    fx.save({"x": x}, tmp_path / "x.safetensors")
    again = fx.load(tmp_path / "x.safetensors", map_location=where)["x"]
    assert again.device.type == "cpu" and again.tolist() == x.tolist()


def test_loading_to_the_gpu(tmp_path):
    fx.save({"x": fx.arange(6.0)}, tmp_path / "x.safetensors")
    for where in ("cuda", "cuda:0", {"cpu": "cuda"}, lambda tensor, saved: tensor.to("cuda")):
        again = fx.load(tmp_path / "x.safetensors", map_location=where)["x"]
        assert again.device == fx.device("cuda:0") and again.tolist() == [0, 1, 2, 3, 4, 5]
    assert fx.load(tmp_path / "x.safetensors")["x"].device.type == "cpu"


def test_loading_to_another_gpu(simulator, tmp_path):
    fx.save({"x": fx.arange(3.0, device="cuda:1")}, tmp_path / "x.safetensors")
    assert fx.load(tmp_path / "x.safetensors")["x"].device == fx.device("cuda:1")
    assert fx.load(tmp_path / "x.safetensors", map_location={"cuda:1": "cuda:0"})["x"].device == fx.device("cuda:0")
