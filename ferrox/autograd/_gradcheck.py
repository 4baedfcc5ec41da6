"""Gradients against finite differences."""

import math
import warnings

import ferrox as fx
from ferrox._core.graph.engine import grad as _grad
from ferrox.autograd.grad_mode import enable_grad, no_grad

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A gradient differs from its numerical value, or breaks a rule of gradients."""


def _as_tuple(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _name_of(func):
    return getattr(func, "name", None) or getattr(func, "__qualname__", None) or type(func).__name__


def _differentiable(value):
    """Whether a value is a floating-point tensor that requires grad."""
    return isinstance(value, fx.Tensor) and value.requires_grad


def _values(tensor):
    return tensor.detach().reshape(-1).tolist()


def _index(k, shape):
    """The k-th index in row-major order."""
    at = []
    for size in reversed(shape):
        at.append(k % size)
        k //= size
    return tuple(reversed(at))


class _Point:
    """A copy of an input, of the same strides, whose elements can be moved."""

    def __init__(self, tensor):
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype
        strides = tuple(tensor.stride())
        span = 1 + sum((size - 1) * step for size, step in zip(self.shape, strides, strict=True))
        span = span if tensor.numel() else 0
        with no_grad():
            self.memory = fx.zeros(span, dtype=tensor.dtype, device=tensor.device)
            self.window = self.memory.as_strided(self.shape, strides)
            self.window.copy_(tensor.detach())
        self.places = [sum(i * step for i, step in zip(_index(k, self.shape), strides, strict=True))
                       for k in range(tensor.numel())]
        self.values = _values(tensor)

    def tensor(self):
        return self.window.detach().requires_grad_()

    def move(self, k, by):
        """Set element k to its value plus `by`; returns what it is after rounding."""
        with no_grad():
            return self.memory.narrow(0, self.places[k], 1).fill_(self.values[k] + by).item()

    def move_all(self, by):
        for k, each in enumerate(by):
            self.move(k, each)


def _check_inputs(inputs):
    anything = False
    for k, each in enumerate(inputs):
        if not _differentiable(each):
            continue
        anything = True
        if each.dtype != fx.float64:
            warnings.warn(f"Input #{k} requires gradient and is not a double precision floating point. This check will "
                          "likely fail if all the inputs are not of double precision floating point.", stacklevel=3)
        if any(step == 0 and size > 1 for size, step in zip(each.shape, each.stride(), strict=False)):
            raise RuntimeError(f"The {k}th input has a dimension with stride 0. gradcheck only supports inputs that "
                               "are non-overlapping to be able to compute the numerical gradients correctly.")
    if not anything:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have "
                         "requires_grad=True.")


class _Check:
    """One gradcheck: the function, where it is checked, and how exactly."""

    def __init__(self, func, inputs, eps, atol, rtol, nondet_tol, check_grad_dtypes):
        self.func, self.inputs, self.eps, self.atol, self.rtol = func, inputs, eps, atol, rtol
        self.nondet_tol, self.check_grad_dtypes = nondet_tol, check_grad_dtypes
        self.name = _name_of(func)
        self.wrt = [k for k, each in enumerate(inputs) if _differentiable(each)]
        self.points = {k: _Point(inputs[k]) for k in self.wrt}

    def call(self, points):
        """Inputs on the points, and the outputs there."""
        inputs = [points[k].tensor() if k in points else each for k, each in enumerate(self.inputs)]
        with enable_grad():
            outputs = _as_tuple(self.func(*inputs))
        return [inputs[k] for k in self.wrt], [each for each in outputs if isinstance(each, fx.Tensor)]

    def output_values(self, chosen):
        outputs = self.call(self.points)[1]
        return [_values(outputs[k]) for k in chosen]

    def gradients(self, output, inputs, cotangent):
        found = _grad(output, inputs, cotangent, retain_graph=True, allow_unused=True)
        for k, (g, x) in enumerate(zip(found, inputs, strict=False)):
            if g is None:
                continue
            if tuple(g.shape) != tuple(x.shape):
                raise GradcheckError(f"[{self.name}] the gradient of input {self.wrt[k]} has shape {tuple(g.shape)}, "
                                     f"the input has shape {tuple(x.shape)}")
            if self.check_grad_dtypes and g.dtype != x.dtype:
                raise GradcheckError(f"[{self.name}] the gradient of input {self.wrt[k]} has dtype {g.dtype}, the "
                                     f"input has dtype {x.dtype}")
        return found

    def numbers(self, output, inputs, cotangent):
        """Gradients as lists of numbers, zeros for an unused input."""
        return [[0.0] * x.numel() if g is None else _values(g)
                for g, x in zip(self.gradients(output, inputs, cotangent), inputs, strict=False)]

    def close(self, numeric, analytic, atol=None):
        if math.isnan(numeric) or math.isnan(analytic):
            return math.isnan(numeric) and math.isnan(analytic)
        if numeric == analytic:
            return True
        return abs(numeric - analytic) <= (self.atol if atol is None else atol) + self.rtol * abs(numeric)

    def run(self, fast, check_undefined):
        # Points of their own: moving elements changes in place what the graph has saved.
        inputs, outputs = self.call({k: _Point(self.inputs[k]) for k in self.wrt})
        chosen = [k for k, each in enumerate(outputs) if _differentiable(each)]
        if not chosen:
            self.check_constant(outputs)
            return
        if fast:
            self.check_directions(inputs, outputs, chosen)
        else:
            self.check_jacobians(inputs, outputs, chosen)
        self.check_zero_cotangents(inputs, outputs, chosen)
        if check_undefined and len(chosen) > 1:
            self.check_joint(inputs, outputs, chosen)

    def numerical(self, chosen):
        """Central differences: for each input and its element k, the change of each chosen output."""
        columns = {}
        for i in self.wrt:
            point = self.points[i]
            for k in range(len(point.values)):
                high = point.move(k, self.eps)
                above = self.output_values(chosen)
                low = point.move(k, -self.eps)
                below = self.output_values(chosen)
                point.move(k, 0.0)
                columns[i, k] = [[(a - b) / (high - low) if a != b else 0.0 for a, b in zip(*pair, strict=False)]
                                 for pair in zip(above, below, strict=False)]
        return columns

    def check_jacobians(self, inputs, outputs, chosen):
        columns = self.numerical(chosen)
        for o, number in enumerate(chosen):
            output = outputs[number]
            wrong = {}
            for j, one in enumerate(fx.autograd.functional.basis(output)):
                rows = self.numbers(output, inputs, one)
                again = self.numbers(output, inputs, one)
                self.check_deterministic(rows, again, number)
                for i, row in zip(self.wrt, rows, strict=False):
                    for k, analytic in enumerate(row):
                        if not self.close(columns[i, k][o][j], analytic):
                            wrong.setdefault(i, []).append((j, k, columns[i, k][o][j], analytic))
            for i, entries in wrong.items():
                self.fail(number, i, entries, output)

    def fail(self, output_number, i, entries, output):
        shape = self.points[i].shape
        worst = max(entries, key=lambda e: abs(e[2] - e[3]) if math.isfinite(e[2] - e[3]) else math.inf)
        lines = [f"  output{list(_index(j, output.shape))} by input{list(_index(k, shape))}: numerical {numeric:.10g}, "
                 f"analytical {analytic:.10g}" for j, k, numeric, analytic in entries[:8]]
        if len(entries) > 8:
            lines.append(f"  … and {len(entries) - 8} more")
        total = output.numel() * len(self.points[i].values)
        raise GradcheckError(
            f"[{self.name}] Jacobian mismatch for output {output_number} with respect to input {i}: {len(entries)} of "
            f"{total} entries differ by more than atol {self.atol:g} + rtol {self.rtol:g}, the worst by "
            f"{abs(worst[2] - worst[3]):.3g}\n" + "\n".join(lines))

    def check_deterministic(self, first, second, number):
        for i, a, b in zip(self.wrt, first, second, strict=False):
            for k, (x, y) in enumerate(zip(a, b, strict=False)):
                if abs(x - y) > self.nondet_tol and not (math.isnan(x) and math.isnan(y)):
                    raise GradcheckError(
                        f"[{self.name}] Backward is not reentrant, i.e., running backward with same input and "
                        f"grad_output multiple times gives different values: output {number}, input {i} at "
                        f"{list(_index(k, self.points[i].shape))}: {x:.10g}, then {y:.10g}; the tolerance nondet_tol "
                        f"was {self.nondet_tol:g}")

    def check_directions(self, inputs, outputs, chosen):
        """Fast mode: v.J.u for one random direction u of each input and v of each output."""
        from random import Random

        stream = Random(0x5eed)
        vs = {}
        for number in chosen:
            direction = [stream.uniform(0.1, 1.0) for _ in range(outputs[number].numel())]
            norm = math.sqrt(sum(v * v for v in direction)) or 1.0
            vs[number] = [v / norm for v in direction]
        for i, x in zip(self.wrt, inputs, strict=False):
            point = self.points[i]
            u = [stream.uniform(0.1, 1.0) for _ in point.values]
            norm = math.sqrt(sum(each * each for each in u)) or 1.0
            u = [each / norm for each in u]
            point.move_all([self.eps * each for each in u])
            above = self.output_values(chosen)
            point.move_all([-self.eps * each for each in u])
            below = self.output_values(chosen)
            point.move_all([0.0] * len(u))
            for number, high, low in zip(chosen, above, below, strict=False):
                v, output = vs[number], outputs[number]
                numeric = sum(each * (a - b) / (2 * self.eps) for each, a, b in zip(v, high, low, strict=False))
                cotangent = fx.tensor(v, dtype=output.dtype, device=output.device).reshape(output.shape)
                row = self.numbers(output, [x], cotangent)[0]
                self.check_deterministic([row], self.numbers(output, [x], cotangent), number)
                analytic = sum(a * b for a, b in zip(row, u, strict=False))
                if not self.close(numeric, analytic, self.atol * sum(u) * sum(v)):
                    try:
                        self.check_jacobians(inputs, outputs, chosen)   # says which entries are wrong
                    except GradcheckError as error:
                        raise GradcheckError(f"{error}\n(found in fast mode)") from None
                    raise GradcheckError(
                        f"[{self.name}] Jacobian mismatch for output {number} with respect to input {i} in fast mode: "
                        f"along random directions numerical {numeric:.10g}, analytical {analytic:.10g}, though each "
                        "entry is within tolerance; use fast_mode=False or a wider tolerance")

    def check_constant(self, outputs):
        """Outputs that do not require grad must not depend on the inputs."""
        chosen = [k for k, each in enumerate(outputs) if each.is_floating_point()]
        for (i, k), changes in self.numerical(chosen).items():
            for number, change in zip(chosen, changes, strict=False):
                for j, numeric in enumerate(change):
                    if not self.close(numeric, 0.0):
                        raise GradcheckError(
                            f"[{self.name}] Numerical gradient for function expected to be zero: output {number} does "
                            f"not require grad, but changes with input {i} at {list(_index(k, self.points[i].shape))} "
                            f"(by {numeric:.10g}, output element {list(_index(j, outputs[number].shape))})")

    def check_zero_cotangents(self, inputs, outputs, chosen):
        for number in chosen:
            rows = self.numbers(outputs[number], inputs, fx.zeros_like(outputs[number].detach()))
            for i, row in zip(self.wrt, rows, strict=False):
                if any(each != 0 and not math.isnan(each) for each in row):
                    raise GradcheckError(f"[{self.name}] backward not multiplied by grad_output: a zero cotangent of "
                                         f"output {number} gives input {i} a gradient that is not zero")

    def check_joint(self, inputs, outputs, chosen):
        """All outputs at once must give the sum of the gradients of each alone, the others having no cotangent."""
        joint = self.numbers([outputs[k] for k in chosen], inputs, [fx.ones_like(outputs[k].detach()) for k in chosen])
        alone = [self.numbers(outputs[k], inputs, fx.ones_like(outputs[k].detach())) for k in chosen]
        for at, i in enumerate(self.wrt):
            for k, total in enumerate(joint[at]):
                expected = sum(rows[at][k] for rows in alone)
                if not self.close(expected, total):
                    raise GradcheckError(
                        f"[{self.name}] Expected backward to handle undefined output grads: input {i} at "
                        f"{list(_index(k, self.points[i].shape))} gets {total:.10g} from all outputs at once, "
                        f"{expected:.10g} from one after the other")


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, nondet_tol=0.0,
              check_undefined_grad=True, check_grad_dtypes=False, fast_mode=False):
    """Check gradients against central differences, for every output with respect to every input that requires grad.

    Parameters
    ----------
    func : callable
        From the inputs to a tensor or a tuple of tensors; a function, an `fx.Op`, a `Function.apply`.
    inputs : tuple of Tensor or Tensor
        float64, with elements away from kinks.
    eps : float
        How far elements are moved.
    atol, rtol : float
        Numerical and analytical values may differ by atol + rtol * |numerical|.
    raise_exception : bool
        Whether to raise `GradcheckError` or to return False.
    nondet_tol : float
        How much two backwards on the same values may differ.
    check_undefined_grad : bool
        Check a function of several outputs with only some of them used.
    check_grad_dtypes : bool
        Check that each gradient has its input's dtype.
    fast_mode : bool
        Compare along one random direction instead of every entry.

    Returns
    -------
    bool
        True when every check passed.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.tensor([0.5, -1.5], dtype=fx.float64, requires_grad=True)
    >>> fx.autograd.gradcheck(lambda x: x * x * x, x)
    True
    """
    inputs = _as_tuple(inputs)
    try:
        _check_inputs(inputs)
        check = _Check(func, inputs, eps, atol, rtol, nondet_tol, check_grad_dtypes)
        check.run(fast_mode, check_undefined_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _random_like(tensor, stream):
    values = [stream.uniform(-1.0, 1.0) for _ in range(tensor.numel())]
    made = fx.tensor(values, dtype=tensor.dtype, device=tensor.device).reshape(tensor.shape)
    return made.detach().requires_grad_()


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, gen_non_contig_grad_outputs=False,
                  raise_exception=True, nondet_tol=0.0, check_undefined_grad=True, check_grad_dtypes=False,
                  fast_mode=False):
    """Check gradients of gradients: `gradcheck` of the function (inputs, cotangents) -> gradients.

    Parameters
    ----------
    func, inputs, eps, atol, rtol, raise_exception, nondet_tol, check_undefined_grad, check_grad_dtypes, fast_mode
        As for `gradcheck`.
    grad_outputs : tuple of Tensor, optional
        Cotangents of the outputs that require grad; random ones by default.
    gen_non_contig_grad_outputs : bool
        Make random cotangents that are not contiguous.

    Returns
    -------
    bool

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.tensor([0.5, -1.5], dtype=fx.float64, requires_grad=True)
    >>> fx.autograd.gradgradcheck(lambda x: x * x * x, x)
    True
    """
    inputs = _as_tuple(inputs)
    with enable_grad():
        outputs = [each for each in _as_tuple(func(*inputs)) if _differentiable(each)]
    if grad_outputs is None:
        from random import Random

        stream = Random(0xc07a)
        cotangents = [_random_like(each, stream) for each in outputs]
        if gen_non_contig_grad_outputs:
            plain = [each.detach() for each in cotangents]
            cotangents = [fx.stack([each, each], -1).select(-1, 0).requires_grad_() for each in plain]
    else:
        cotangents = [each if each.requires_grad else each.detach().requires_grad_()
                      for each in _as_tuple(grad_outputs)]
    if not outputs:
        raise ValueError(f"[{_name_of(func)}] gradgradcheck expects at least one output that requires grad")
    count = len(cotangents)

    def gradient(*args):
        points = args[:-count]
        results = [each for each in _as_tuple(func(*points)) if _differentiable(each)]
        wrt = [each for each in points if _differentiable(each)]
        found = _grad(results, wrt, args[-count:], create_graph=True, allow_unused=True)
        return tuple(each for each in found if each is not None)

    gradient.__qualname__ = f"the gradient of {_name_of(func)}"
    return gradcheck(gradient, (*inputs, *cotangents), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad,
                     check_grad_dtypes=check_grad_dtypes, fast_mode=fast_mode)
