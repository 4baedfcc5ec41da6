"""Builds a small network's graph, prints it, and writes it as DOT, Mermaid, a picture and a page.

    python examples/graph_visualization.py [folder]

The picture and the page need no other program; the DOT file is for Graphviz.
"""

import pathlib
import sys

import ferrox as fx


def network():
    """Two layers and a loss; returns the loss and its parameters by name."""
    fx.manual_seed(0)
    params = {
        "w1": fx.randn(4, 8, requires_grad=True),
        "b1": fx.zeros(8, requires_grad=True),
        "w2": fx.randn(8, 1, requires_grad=True),
        "b2": fx.zeros(1, requires_grad=True),
    }
    x, target = fx.randn(16, 4), fx.randn(16, 1)
    hidden = (x @ params["w1"] + params["b1"]).tanh()
    prediction = hidden @ params["w2"] + params["b2"]
    loss = ((prediction - target) ** 2).mean()
    return loss, params


def main(folder):
    loss, params = network()
    print("The graph, outputs first; the inputs of each operator stand below it:\n")
    print(fx.viz.to_text(loss, params, colour="auto"))

    stats = fx.graph_stats(loss)
    print(f"\n{stats['nodes']} operators, {stats['edges']} edges, {stats['leaves']} parameters; "
          f"{stats['bytes']} bytes are kept for the gradients")

    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("dot", "mmd", "json", "svg", "html"):
        path = fx.viz.save(loss, folder / f"graph.{suffix}", params)
        print(f"wrote {path} ({path.stat().st_size} bytes)")

    loss.backward()
    print(f"\nafter backward {fx.graph_stats(loss)['bytes']} bytes are kept; gradients:")
    for name, parameter in params.items():
        print(f"  {name}: shape {tuple(parameter.grad.shape)}, norm {(parameter.grad ** 2).sum().sqrt().item():.4f}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "graph"))
