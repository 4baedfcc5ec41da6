"""What a type checker sees of the modules in Python: layers, optimisers, loaders, files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
from collections.abc import Iterator
from typing import Any, assert_type

import ferrox as fx
from ferrox import nn, optim
from ferrox.optim import lr_scheduler
from ferrox.utils.data import (
    ConcatDataset, DataLoader, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset, default_collate,
    get_worker_info, random_split,
)
from ferrox.utils.hooks import RemovableHandle


class Block(nn.Module):
    def __init__(self, width: int, *, device: str | fx.device | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False, device=device, dtype=fx.float32)
        self.layers = nn.ModuleList(nn.ReLU() for _ in range(2))
        self.heads = nn.ModuleDict({"a": nn.Linear(width, 1)})
        self.gains = nn.ParameterList([fx.ones(1)])
        self.register_buffer("scale", fx.ones(1), persistent=False)

    def forward(self, x: fx.Tensor, mask: fx.Tensor | None = None) -> fx.Tensor:
        for layer in self.layers:
            x = layer(x)
        y: fx.Tensor = self.heads["a"](self.linear(x)) * self.gains[0]
        return y


model = nn.Sequential(Block(2), nn.Dropout(0.1), nn.BatchNorm1d(2), nn.LayerNorm([2]), nn.Embedding(3, 4))
assert_type(model[0], nn.Module)
assert_type(model[1:], nn.Sequential)
assert_type([each for each in model], list[nn.Module])
assert_type(model.append(nn.Flatten()), nn.Sequential)
assert_type(model.to("cpu", fx.float64), nn.Sequential)
assert_type(model.eval().train().requires_grad_(False), nn.Sequential)
assert_type(model.state_dict(), dict[str, Any])
assert_type(model.load_state_dict({}, strict=False, assign=True).missing_keys, list[str])
assert_type(nn.Linear(1, 1).weight, nn.Parameter)
assert_type(nn.MSELoss(reduction="sum").forward(fx.ones(1), fx.ones(1)), fx.Tensor)
assert_type(model.register_forward_hook(lambda module, args, output: None), RemovableHandle)
assert_type(model.get_submodule("0"), nn.Module)
assert_type(nn.utils.clip_grad_norm_(model.parameters(), 1.0), fx.Tensor)
assert_type(nn.utils.parameters_to_vector(model.parameters()), fx.Tensor)
assert_type(nn.init.kaiming_uniform_(model[0].linear.weight, nonlinearity="relu"), fx.Tensor)

optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
other = optim.AdamW([{"params": model.parameters(), "lr": 1e-3}], lr=fx.tensor(0.1), betas=(0.9, 0.99))
named = optim.Adam(model.named_parameters(), amsgrad=True, fused=None)
assert_type(optimizer.param_groups, list[dict[str, Any]])
assert_type(optimizer.step(), None)
assert_type(optimizer.step(lambda: 1.0), float | fx.Tensor)
optimizer.zero_grad(set_to_none=False)
optimizer.add_param_group({"params": [fx.ones(1)]})
schedule = lr_scheduler.SequentialLR(
    optimizer, [lr_scheduler.LinearLR(optimizer, 0.1), lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)], [3]
)
schedule.step()
assert_type(schedule.get_last_lr(), list[float])
lr_scheduler.ReduceLROnPlateau(optimizer, mode="max").step(fx.tensor(0.3))
lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)


class Own(Dataset[tuple[fx.Tensor, int]]):
    def __getitem__(self, index: int) -> tuple[fx.Tensor, int]:
        return fx.ones(2), index

    def __len__(self) -> int:
        return 3


class Stream(IterableDataset[str]):
    def __iter__(self) -> Iterator[str]:
        info = get_worker_info()
        yield "a" if info is None else str(info.id)


data = TensorDataset(fx.ones(3, 2), fx.ones(3))
assert_type(data[0], tuple[fx.Tensor, ...])
assert_type(DataLoader(Own(), batch_size=2, shuffle=True, num_workers=2), DataLoader[tuple[fx.Tensor, int]])
assert_type(DataLoader(Stream()), DataLoader[str])
assert_type(DataLoader([1, 2], sampler=RandomSampler([1, 2]), collate_fn=default_collate), DataLoader[int])
assert_type(random_split(Own(), [0.5, 0.5]), list[Subset[tuple[fx.Tensor, int]]])
assert_type(Own() + Own(), ConcatDataset[tuple[fx.Tensor, int]])
for x, y in DataLoader(data, batch_size=2, pin_memory=True):
    print(x, y)

with open("x", "wb") as file:
    fx.save({"model": model.state_dict()}, file)
assert_type(fx.load("x", map_location="cpu", weights_only=True), Any)
assert_type(fx.utils.checkpoint.checkpoint(model, fx.ones(1), use_reentrant=False), Any)
"""

WRONG = """
import ferrox as fx
from ferrox import nn
model = nn.Sequential(nn.Linear(2, "3"))  # wrong
model[0:1].append(3)  # wrong
fx.optim.SGD(3)  # wrong
fx.optim.SGD(model.parameters(), lr="fast")  # wrong
fx.optim.Adam(model.parameters(), betas=0.9)  # wrong
fx.optim.lr_scheduler.StepLR(model, 3)  # wrong
fx.utils.data.DataLoader([1], batch_size="2")  # wrong
fx.save({})  # wrong
fx.load(3)  # wrong
nn.Module().register_buffer("a", 3)  # wrong
nn.utils.clip_grad_norm_(model.parameters())  # wrong
nn.ModuleList([3])  # wrong
fx.optim.SGD(model.parameters()).zero_grad(set_to_nothing=True)  # wrong
"""


def refused(text, folder):
    pytest.importorskip("mypy", reason="mypy is not installed")
    (folder / "program.py").write_text(text)
    command = [sys.executable, "-P", "-m", "mypy", "--config-file=", "--follow-imports=silent", "--no-color-output"]
    done = subprocess.run([*command, "--strict", "program.py"], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "MYPYPATH": str(ROOT)})
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line]


def test_a_strict_program(tmp_path):
    assert refused(PROGRAM, tmp_path) == []


def test_wrong_arguments_are_refused(tmp_path):
    wrong = {at for at, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")}
    assert {int(line.split(":")[1]) for line in refused(WRONG, tmp_path)} == wrong
