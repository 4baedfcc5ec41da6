"""The type stubs are what the generator writes, they fit every sample call, and a type checker can use them."""

import ast
import importlib
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from samples import CHECKED, ROWS, calls, run

import ferrox as fx

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = Path(fx.__file__).parent
PACKAGES = ["", ".autograd", ".autograd.functional", ".autograd.graph", ".cpu", ".cuda", ".func", ".io", ".metrics",
            ".nn", ".nn.functional", ".nn.init", ".nn.utils", ".optim", ".optim.lr_scheduler", ".profiler",
            ".return_types", ".special", ".testing", ".utils.checkpoint", ".utils.data", ".viz"]
STUBS = sorted(path.relative_to(ROOT / "ferrox") for path in (ROOT / "ferrox").rglob("*.pyi"))

PROGRAM = """
import numpy as np

import ferrox as fx
from ferrox import nn
from ferrox.nn import functional as F


class Net(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, hidden)
        self.second = nn.Linear(hidden, 1)
        self.scale = nn.Parameter(fx.ones(1))

    def forward(self, x: fx.Tensor) -> fx.Tensor:
        x = F.relu(self.first(x), inplace=True)
        return F.softplus(self.second(x), beta=2) * self.scale


class Square(fx.autograd.Function):
    @staticmethod
    def forward(ctx: fx.autograd.FunctionCtx, x: fx.Tensor) -> fx.Tensor:
        ctx.save_for_backward(x)
        ctx.shape = x.shape
        return x * x

    @staticmethod
    def backward(ctx: fx.autograd.FunctionCtx, g: fx.Tensor) -> fx.Tensor:
        (x,) = ctx.saved_tensors
        return (2 * g * x).reshape(ctx.shape)


def train(x: fx.Tensor, y: fx.Tensor, steps: int = 10, device: str | fx.device = "cpu") -> list[float]:
    model = Net(8).to(device)
    optimizer = fx.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    losses: list[float] = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y) + 1e-3 * sum(p.square().sum() for p in model.parameters())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with fx.no_grad():
        values, places = model(x).sort(0, descending=True)
        best, where = y.max(0)
        top: fx.Tensor = y.max()
        rows, columns = x.shape
        x[x > 0] = 0
        x += 1
        x.clamp_(min=-1).mul_(fx.pi)
    (slope,) = fx.autograd.grad(Square.apply(x).sum(), [x])
    first, *rest = x.split(2)
    generator = fx.Generator().manual_seed(0)
    noise = fx.randn(rows, columns, dtype=fx.float64, generator=generator) @ fx.eye(columns)
    bits = fx.einsum("ij,jk->ik", x, x.T).view(fx.int32) | fx.einsum(x, [0, 1], x, [2, 1], [0, 2]).long().view(-1, rows)
    fx.save({"bits": bits, "slope": slope, "noise": noise.numpy()}, "noise.safetensors")
    array: np.ndarray = (1 - first + np.ones(columns)).detach().numpy()
    return losses if bool(top > best.mean()) and array.any() else []
"""

TYPED = """
from collections.abc import Callable
from typing import assert_type

import ferrox as fx
from ferrox import nn, optim


@fx.no_grad()
def scaled(x: fx.Tensor, n: int = 1) -> fx.Tensor:
    return x * n


@fx.enable_grad
def kept(x: fx.Tensor) -> fx.Tensor:
    return x


@fx.inference_mode()
def count(x: fx.Tensor) -> int:
    return x.shape.numel()


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU())

    @fx.no_grad()
    def forward(self, x: fx.Tensor, times: int = 1) -> tuple[fx.Tensor, int]:
        return self.body(x) * times, times


x = fx.ones(2, 3, dtype=float)
f: Callable[[fx.Tensor, int], fx.Tensor] = scaled
assert_type(kept(x), fx.Tensor)
assert_type(count(x), int)
assert_type(x[0], fx.Tensor)
assert_type(x[0, 1:, None, ...], fx.Tensor)
assert_type(x.shape, fx.Size)
assert_type(x.shape[0], int)
assert_type(x.shape[1:] + (1,), fx.Size)
assert_type(x.size(), fx.Size)
assert_type(Pair()(x, times=2), tuple[fx.Tensor, int])
assert_type(nn.Linear(3, 4)(x), fx.Tensor)
assert_type(nn.MSELoss()(x, x), fx.Tensor)
assert_type(nn.Sequential(nn.ReLU(), nn.Tanh())[0], nn.Module)
assert_type(nn.Sequential(nn.ReLU(), nn.Tanh())[:1], nn.Sequential)
assert_type(fx.special.expit(x), fx.Tensor)
assert_type(x.to(int).view(bool).real, fx.Tensor)
assert_type(x.is_sparse, bool)
optim.Adam(Pair().named_parameters(), lr=1e-3, betas=(0.9, 0.99))
optim.SGD([{"params": Pair().parameters(), "lr": 0.1}], lr=0.1)
"""

# Each line that ends in a mark is refused, and no other.
WRONG = """
import ferrox as fx
import ferrox.nn.functional as F

x = fx.zeros(2, 3, dtype=fx.float32)
y: fx.Tensor = x.exp().sum(dim=(0, 1), keepdim=True)
x.exp("fast")  # wrong
x.reshape("2")  # wrong
fx.zeros(2, dtype="float32")  # wrong
fx.sums(x)  # wrong
fx.matmul(x, 2)  # wrong
x + "1"  # wrong
x.grad.sum()  # wrong
x.requires_grad = "yes"  # wrong
x.shape = (3, 2)  # wrong
F.dropout(x, rate=0.5)  # wrong
F.cross_entropy(x)  # wrong
n: int = x.max(0)  # wrong
x.max(0).indices.sum()
fx.split(x, 2).sum()  # wrong
x.add_(1).mul_(2).backward(create_graph=1)  # wrong
fx.optim.Sgd([x], lr=0.1)  # wrong
fx.nn.Linear(2, 3)("text")  # wrong
fx.optim.SGD([x], lr="fast")  # wrong
fx.no_grad()(2)  # wrong
"""


SCRIPT = """
import ferrox as fx
from ferrox import nn, optim
from ferrox.utils.data import DataLoader, TensorDataset
m = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.1), nn.LayerNorm(4), nn.Linear(4, 1))
o = optim.Adam(m.parameters(), lr=1e-3)
s = optim.lr_scheduler.StepLR(o, 3)
m.train()
m.eval()
m.zero_grad()
for x, y in DataLoader(TensorDataset(fx.rand(8, 3), fx.rand(8, 1)), batch_size=4, shuffle=True):
    o.zero_grad()
    loss = nn.functional.mse_loss(m(x), y)
    loss.backward()
    o.step()
    s.step()
state = m.state_dict()
m.load_state_dict(state)
m.to(fx.float64).double()
for name, p in m.named_parameters():
    print(name, p.shape)
fx.save(state, "x.safetensors")
m.load_state_dict(fx.load("x.safetensors"))
loss_fn = nn.CrossEntropyLoss()
with fx.no_grad():
    print(m(fx.rand(1, 3)))
"""


def mypy(folder, *arguments):
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-P", "-m", "mypy", "--config-file=", "--follow-imports=silent", "--no-color-output"]
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def check_types(text, folder, *options):
    """The lines that mypy refuses, with what it says."""
    (folder / "program.py").write_text(text)
    said = mypy(folder, *options, "program.py")
    return {int(line): what for line, what in re.findall(r"^program\.py:(\d+): error: (.*)$", said, re.M)}


def test_stubs_are_as_the_generator_writes_them(tmp_path):
    command = [sys.executable, "-P", ROOT / "tools" / "stubs.py", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [*STUBS, "py.typed"], ids=str)
def test_stubs_are_installed(name):
    assert (INSTALLED / name).read_text() == (ROOT / "ferrox" / name).read_text()


def test_stubs_are_sound_themselves(tmp_path):
    modules = [".".join(["ferrox", *name.with_suffix("").parts]).removesuffix(".__init__") for name in STUBS]
    said = mypy(tmp_path, "--strict", *(part for module in modules for part in ("-m", module)))
    assert said.startswith("Success"), said


@pytest.mark.parametrize("program", [PROGRAM, SCRIPT, TYPED], ids=["program", "script", "typed"])
def test_a_typed_program_is_accepted(tmp_path, program):
    assert check_types(program, tmp_path, "--strict") == {}


def test_a_wrong_program_is_refused(tmp_path):
    marked = {at for at, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")}
    assert check_types(WRONG, tmp_path).keys() == marked


def public_names(module):
    """The names of a module that are its own, or that it says are."""
    if module is fx:
        # Modules that were loaded along the way are no part of the face.
        return [name for name in dir(fx) if name in fx._modules or not isinstance(getattr(fx, name), types.ModuleType)]
    own = module.__name__.partition(".")[0] + "."
    return getattr(module, "__all__", None) or [
        name for name, value in vars(module).items()
        if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith(own)
    ]


def test_every_public_name_is_known(tmp_path):
    lines = []
    for number, package in enumerate(PACKAGES):
        lines.append(f"import ferrox{package} as m{number}")
        lines += [f"m{number}.{name}" for name in public_names(importlib.import_module(f"ferrox{package}"))]
    refused = check_types("\n".join(lines), tmp_path, "--no-implicit-reexport")
    assert not refused, "\n".join(f"{lines[line - 1]}: {said}" for line, said in refused.items())
    assert len(lines) > 600


def written_arguments(name):
    """The sample calls of an operator as source text."""
    text = ROWS[name].sample
    for sample in text if isinstance(text, list) else [text]:
        tree = ast.parse(sample, mode="eval").body
        for each in tree.elts if isinstance(tree, ast.List) else [tree]:
            if isinstance(each, ast.Tuple):
                yield [ast.unparse(part) for part in each.elts]
            elif isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "call":
                named = [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in each.keywords]
                yield [ast.unparse(part) for part in each.args] + named
            else:
                yield [ast.unparse(each)]


def test_every_sample_call_fits(tmp_path):
    lines = [
        "from typing import Any",
        "import ferrox as fx",
        "import ferrox.nn.functional as F",
        "np: Any = None",
        "def t(*shape: int, low: float = 0, high: float = 0) -> fx.Tensor: return fx.zeros(shape)",
        "def i(*shape: int, low: int = 0, high: int = 0) -> fx.Tensor: return fx.zeros(shape)",
        "def b(*shape: int) -> fx.Tensor: return fx.zeros(shape)",
    ]
    for name in CHECKED:
        place = {True: "fx.", "nn": "F."}.get(ROWS[name].row.get("public", True))
        for given in written_arguments(name):
            if place:
                lines.append(f"{place}{name}({', '.join(given)})")
            if ROWS[name].row.get("method") is True:
                lines.append(f"({given[0]}).{name}({', '.join(given[1:])})")
    refused = check_types("\n".join(lines), tmp_path)
    assert not refused, "\n".join(f"{lines[line - 1]}: {said}" for line, said in refused.items())
    assert len(lines) > 500


def results():
    """What the stubs say that functions give back: by name, the result of each overload."""
    said = {}
    for name in ("__init__", "nn/functional"):
        for node in ast.parse((ROOT / "ferrox" / f"{name}.pyi").read_text()).body:
            if isinstance(node, ast.FunctionDef):
                said.setdefault(node.name, set()).add(ast.unparse(node.returns))
    return said


RESULTS = results()


def fits(value, said):
    kind = said.partition("[")[0].rpartition(".")[2]
    if kind in ("tuple", "_bool"):
        return type(value) is {"tuple": tuple, "_bool": bool}[kind]
    return type(value).__name__ == kind


@pytest.mark.parametrize("name", sorted({name for name in CHECKED if name in RESULTS and RESULTS[name] != {"Any"}}))
def test_results_are_of_the_type_said(name):
    for call in calls(name):
        got = run(name, call)
        assert any(fits(got, said) for said in RESULTS[name]), (type(got), RESULTS[name])
