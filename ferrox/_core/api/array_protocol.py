"""NumPy's functions with tensors among their arguments: `__array_ufunc__` (NEP 13).

Operators between an array and a tensor are Ferrox's own, recorded for gradients like any other.  Everything else NumPy
computes on the tensors' memory, and its arrays come back as tensors; where it is told to write into an array (`r += t`,
`out=r`), it writes into that array and gives it back.
"""

from ferrox._core.api.tensorclass import Tensor
from ferrox._core.graph.op import operators
from ferrox._core.tensor.interchange import coerce

# Ufuncs behind Python's operators, and the operators.
OPERATORS = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "floor_divide": "floor_divide", "remainder": "remainder", "power": "pow", "matmul": "matmul",
    "equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
    "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or", "bitwise_xor": "bitwise_xor",
    "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift",
}
METHODS = {}


def _tensor(made):
    """A tensor on an array's memory, or the array where Ferrox has no such dtype."""
    import numpy

    try:
        return operators()["as_tensor"](numpy.asarray(made))
    except TypeError:
        return made


def _written(target, made):
    """The values of an array in a tensor, whose change is counted."""
    target.copy_(_tensor(made))
    return target


def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
    if method == "__call__" and out is None and not options and ufunc.__name__ in OPERATORS:
        given = [each if isinstance(each, Tensor) else coerce(each) for each in inputs]
        if any(each is None for each in given):
            return NotImplemented
        return operators()[OPERATORS[ufunc.__name__]](*given)
    arrays = [each.numpy() if isinstance(each, Tensor) else each for each in inputs]
    if out is not None:
        options["out"] = tuple(each.detach().clone().numpy() if isinstance(each, Tensor) else each for each in out)
    made = getattr(ufunc, method)(*arrays, **options)
    if out is not None:
        made = made if isinstance(made, tuple) else (made,)
        given = tuple(_written(target, each) if isinstance(target, Tensor) else each
                      for target, each in zip(out, made, strict=True))
        return given if len(given) > 1 else given[0]
    if isinstance(made, tuple):
        return tuple(_tensor(each) for each in made)
    return None if made is None else _tensor(made)


METHODS["__array_ufunc__"] = __array_ufunc__
