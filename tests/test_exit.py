"""The interpreter ends while daemon threads compute: quietly."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, threading, time
import ferrox as fx

def elementwise():
    a = fx.ones(4_000_000)
    while True:
        a = a * 1.0 + 0.0

def product():
    a = fx.ones(400, 400)
    while True:
        a @ a

def backward():
    w = fx.ones(200_000, requires_grad=True)
    w.register_hook(lambda g: g * 2.0)
    while True:
        y = w * 1.0
        y.register_hook(lambda g: g * y)
        y.sum().backward()

def small():
    w = fx.ones(4, requires_grad=True)
    while True:
        (w * 1.0).exp().sum().backward()

def ordering():
    a = fx.rand(300_000)
    while True:
        a.sort(), a.cumsum(0), a.sum(), a[a > 0.5]

def loading():
    data = fx.utils.data.TensorDataset(fx.rand(1000, 50))
    while True:
        for batch in fx.utils.data.DataLoader(data, batch_size=100, num_workers=2):
            pass

KINDS
def last():
    big = fx.ones(2_000_000)
    assert float((big * 2.0).sum()) == 4_000_000.0
    print("end", flush=True)

atexit.register(last)
for function in kinds:
    threading.Thread(target=function, daemon=True).start()
time.sleep(0.05)
"""


def end(kinds):
    run = subprocess.run([sys.executable, "-c", PROGRAM.replace("KINDS", f"kinds = [{kinds}]")], capture_output=True,
                         text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")


@pytest.mark.parametrize("kinds", ["elementwise, elementwise, elementwise, elementwise",
                                   "elementwise, product, backward, small, ordering", "backward, backward, small"])
def test_daemon_threads_compute_when_the_interpreter_ends(kinds):
    for _ in range(7):
        end(kinds)
