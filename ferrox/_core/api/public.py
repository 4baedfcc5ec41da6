"""Hands the registry out: public functions, Tensor methods and in-place methods, each from its row."""
import ferrox._core.api.custom
import ferrox._core.cpu
import ferrox._core.ops  # noqa: F401
from ferrox._core.api import dlpack, methods, pickling, tensorclass
from ferrox._core.graph.op import operators
from ferrox._core.ops import creation, elementwise, random
from ferrox._core.ops.family import in_place, with_out
from ferrox._core.tensor import interchange


def install():
    """Put every row into the Tensor class; returns the public functions by name."""
    functions = {}
    for module in (methods, creation, random, dlpack, pickling):
        for name, method in module.METHODS.items():
            tensorclass.install(name, method)
    for name, op in operators().items():
        row = op.row
        if row.get("out") and row.get("family") != "elementwise":
            with_out(op)
        if row.get("public", True) is True:
            functions[name] = op
        if row.get("method"):
            # A callable where the method's arguments are in another order than the function's.
            tensorclass.install(name, row["method"] if callable(row["method"]) else op)
        if row.get("inplace"):
            tensorclass.install(name + "_", row["inplace"] if callable(row["inplace"]) else in_place(op))
    elementwise.coerce = interchange.coerce
    tensorclass.resolve()
    return functions


def neural():
    """The functions of `ferrox.nn.functional` that `ferrox` does not have (public="nn" in their row), by name."""
    return {name: op for name, op in operators().items() if op.row.get("public") == "nn"}
