"""Pictures of the graph."""

import json
import re
import xml.etree.ElementTree

import pytest

import ferrox as fx
from ferrox.viz.layout import layered


def _network():
    x = fx.ones(3, 4)
    params = {"w": fx.ones(4, 2, requires_grad=True), "b": fx.ones(2, requires_grad=True)}
    h = (x @ params["w"] + params["b"]).tanh()
    return (h * 2.0 - h.sum(1, True)).sum(), params


def test_json_is_the_graph():
    y, params = _network()
    graph = json.loads(fx.viz.to_json(y, params))
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert [node["id"] for node in graph["nodes"]] == list(range(len(nodes)))
    names = [node["name"] for node in graph["nodes"]]
    assert sorted(names) == sorted(["constant", "w", "matmul", "b", "add", "tanh", "2.0", "mul", "sum", "sub", "sum"])
    kinds = {node["name"]: node["kind"] for node in graph["nodes"]}
    assert kinds["w"] == kinds["b"] == "leaf" and kinds["constant"] == kinds["2.0"] == "constant"
    assert [node["name"] for node in graph["nodes"] if node["kind"] == "output"] == ["sum"]
    edges = {(nodes[e["source"]]["name"], nodes[e["target"]]["name"], e["input"]) for e in graph["edges"]}
    assert {("constant", "matmul", 0), ("w", "matmul", 1), ("b", "add", 1), ("tanh", "mul", 0), ("tanh", "sum", 0),
            ("mul", "sub", 0), ("sum", "sub", 1), ("sub", "sum", 0)} <= edges
    assert all(e["source"] < e["target"] for e in graph["edges"]) and len(graph["edges"]) == 11
    tanh = next(node for node in graph["nodes"] if node["name"] == "tanh")
    assert (tanh["shape"], tanh["dtype"], tanh["requires_grad"], tanh["saved_bytes"]) == ([3, 2], "float32", True, 24)
    assert not nodes[names.index("constant")]["requires_grad"]


def test_dot_has_every_node_and_edge():
    y, params = _network()
    params['a "quoted" name'] = params.pop("w")
    text = fx.viz.to_dot(y, params)
    assert len(re.findall(r"^  n\d+ \[label=", text, re.M)) == 11
    assert len(re.findall(r"^  n\d+ -> n\d+;", text, re.M)) == 11
    assert 'label="#5 tanh\\n(3, 2) float32\\nrequires grad", shape=box' in text
    assert 'a \\"quoted\\" name' in text and text.startswith('digraph "graph" {') and text.endswith("}")


def test_mermaid():
    y, params = _network()
    lines = fx.viz.to_mermaid(y, params).splitlines()
    assert lines[0] == "flowchart TB" and sum(" --> " in line for line in lines) == 11
    assert '  n5["#35;5 tanh<br/>(3, 2) float32<br/>requires grad"]:::operator' in lines
    assert any(line.startswith("  classDef leaf fill:") for line in lines)


def test_text():
    y, params = _network()
    assert fx.viz.to_text(y, params).splitlines() == [
        "sum #10  () float32",
        "sub #9  (3, 2) float32",
        "├─ mul #7  (3, 2) float32",
        "│  ├─ tanh #5  (3, 2) float32, keeps 24 B",
        "│  │  add #4  (3, 2) float32",
        "│  │  ├─ matmul #2  (3, 2) float32, keeps 48 B",
        "│  │  │  ├─ constant #0  (3, 4) float32, no grad",
        "│  │  │  └─ w #1  (4, 2) float32, leaf",
        "│  │  └─ b #3  (2,) float32, leaf",
        "│  └─ 2.0 #6, no grad",
        "└─ sum #8  (3, 1) float32",
        "   tanh #5, above",
    ]
    assert "\x1b[34mw #1\x1b[0m" in fx.viz.to_text(y, params, colour=True)
    assert "constant" not in fx.viz.to_text(y, params, constants=False)


def test_svg_is_well_formed_and_boxes_do_not_overlap():
    y, params = _network()
    params["<b> & co"] = params.pop("b")
    root = xml.etree.ElementTree.fromstring(fx.viz.to_svg(y, params))
    space = "{http://www.w3.org/2000/svg}"
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = []
    for group in root.iter(f"{space}g"):
        if group.get("class") == "node":
            box = group.find(f"{space}rect")
            boxes.append([float(box.get(key)) for key in ("x", "y", "width", "height")])
            texts = [text.text for text in group.findall(f"{space}text")]
            assert max(len(text) for text in texts) * 5.0 < boxes[-1][2]
    assert len(boxes) == 11
    for k, (x, y_, w, h) in enumerate(boxes):
        assert x >= 0 and y_ >= 0 and x + w <= width and y_ + h <= height
        for u, v, s, t in boxes[:k]:
            assert x + w <= u or u + s <= x or y_ + h <= v or v + t <= y_
    assert len([p for p in root.iter(f"{space}path") if p.get("class") == "edge"]) == 11


def test_html_is_self_contained():
    y, params = _network()
    page = fx.viz.to_html(y, params, title="a < b")
    assert page.startswith("<!doctype html>") and "<svg" in page and "a &lt; b" in page
    assert "src=" not in page and "href=" not in page and "{{" not in page


def test_layout_of_a_chain_with_a_shortcut():
    sizes, edges = [(50.0, 30.0)] * 4, [(0, 1), (1, 2), (2, 3), (0, 3)]
    centres, paths, (_width, _height) = layered(sizes, edges)
    rows = [y for _, y in centres]
    assert rows == sorted(rows) and len(set(rows)) == 4
    shortcut = paths[3]
    assert len(shortcut) == 4       # bends in the two rows that it passes
    for (x, y), (cx, cy) in zip(shortcut[1:-1], centres[1:3], strict=False):
        assert y == cy and abs(x - cx) >= 25.0
    assert layered([], []) == ([], [], (0.0, 0.0))


def test_layout_avoids_a_crossing():
    # 0 and 1 feed 3 and 2: drawn in the order of ids the edges would cross.
    centres, _, _ = layered([(40.0, 20.0)] * 4, [(0, 3), (1, 2)])
    assert (centres[0][0] < centres[1][0]) == (centres[3][0] < centres[2][0])


def test_what_is_too_large_is_cut():
    x = fx.ones(2, requires_grad=True)
    y = x
    for _ in range(5000):
        y = y * 1.5
    graph = json.loads(fx.viz.to_json(y, max_nodes=10, constants=False))
    assert len(graph["nodes"]) == 11 and graph["nodes"][0]["name"] == "… 4990 more operators"
    assert fx.viz.to_text(y, max_nodes=5000, constants=False).count("\n") == 5000
    assert "4800 more" in fx.viz.to_text(y)
    xml.etree.ElementTree.fromstring(fx.viz.to_svg(y, max_nodes=300))


def test_several_outputs_leaves_and_operators_of_ones_own():
    class Both(fx.Op):
        def forward(self, a):
            return a * 2, a * 3

        def vjp(self, ctx, g, h):
            return g * 2 + h * 3

    x = fx.ones(2, requires_grad=True)
    a, b = Both()(x)
    text = fx.viz.to_dot([a, b.exp(), x], {"x": x})
    assert text.count("palegreen") == 0 and '[label="output 1"]' in text and "#1 Both" in text
    assert fx.viz.to_text(x, {"x": x}) == "x #0  (2,) float32, leaf"
    assert fx.viz.to_text(fx.ones(2)) == "leaf #0  (2,) float32, no grad"
    with pytest.raises(TypeError, match="expected tensors"):
        fx.viz.to_dot([1.0])


def test_save_by_suffix(tmp_path):
    y, params = _network()
    starts = {".dot": "digraph", ".gv": "digraph", ".mmd": "flowchart", ".json": "{", ".txt": "sum", ".svg": "<svg",
              ".html": "<!doctype html>"}
    for suffix, start in starts.items():
        path = fx.viz.save(y, tmp_path / f"graph{suffix}", params)
        assert path.read_text(encoding="utf-8").startswith(start)
    with pytest.raises(ValueError, match="names no format"):
        fx.viz.save(y, tmp_path / "graph.png")


def test_after_backward_and_by_module_names():
    nn = pytest.importorskip("ferrox.nn")
    model = nn.Linear(3, 2)
    y = model(fx.ones(1, 3)).sum()
    y.backward()
    text = fx.viz.to_text(y, model)
    assert "weight #" in text and "bias #" in text and "keeps" not in text
