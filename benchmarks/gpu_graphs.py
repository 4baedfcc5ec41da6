"""Training steps of an MLP, eager and as captured graphs: the same program in each library."""

from itertools import pairwise

import numpy as np


def prepared(system, widths, batch, capturable):
    """A fresh model with weights from a seed, its optimiser, a batch, and a training step that returns the loss."""
    library, nn, layers = system.library, system.library.nn, []
    draw = np.random.default_rng(1)
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs).to("cuda")
        weight = draw.standard_normal((outputs, inputs), dtype="f4") / np.float32(inputs**0.5)
        with library.no_grad():
            linear.weight.copy_(system.tensor(weight))
            linear.bias.zero_()
        layers += [linear, nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    optimiser = library.optim.Adam(model.parameters(), lr=1e-3, capturable=capturable)
    x = system.tensor(draw.standard_normal((batch, widths[0]), dtype="f4"))
    target = library.from_numpy(draw.integers(0, widths[-1], batch)).to("cuda")

    def step(model=model, update=optimiser.step):
        optimiser.zero_grad(set_to_none=True)
        loss = system.functional.cross_entropy(model(x), target)
        loss.backward()
        update()
        return loss

    return model, optimiser, step


def eager(system, widths, batch):
    *_, step = prepared(system, widths, batch, False)
    return [step().item() for _ in range(3)], step


def captured(system, widths, batch):
    """Two steps before the capture on a side stream, the third is the first replay."""
    *_, step = prepared(system, widths, batch, True)
    cuda, losses, side = system.cuda, [], system.cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        losses += [step().item() for _ in range(2)]
    cuda.current_stream().wait_stream(side)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        loss = step()

    def replay(graph=graph, kept=step):  # the graph works on the memory of the step's tensors, and does not keep it
        graph.replay()
        return loss

    return [*losses, replay().item()], replay


def compiled(system, widths, batch):
    """PyTorch's compiler with its own graphs; forward and backward compiled, the optimiser's step as well."""
    torch = system.library
    model, optimiser, step = prepared(system, widths, batch, True)
    torch._dynamo.reset()
    fast, update = torch.compile(model, mode="reduce-overhead"), torch.compile(optimiser.step)

    def whole():
        torch.compiler.cudagraph_mark_step_begin()
        return step(fast, update)

    return [whole().item() for _ in range(3)], whole


def ways(found):
    """(label, system, function) of all ways to do a step; a function gives the first three losses and a step."""
    by_name = {system.name: system for system in found}
    made = [("Ferrox, eager", by_name["Ferrox"], eager), ("Ferrox, captured", by_name["Ferrox"], captured)]
    if "PyTorch" in by_name:
        torch = by_name["PyTorch"]
        made += [("PyTorch, eager", torch, eager), ("PyTorch, captured", torch, captured),
                 ("PyTorch, compiled", torch, compiled)]  # fmt: skip
    return made
