"""Two ways to write an operator of one's own, both checked, and a curve fitted with them.

    python examples/custom_op.py

`fx.Op` is the class that every built-in operator is an instance of: a forward and a gradient rule.  `autograd.Function`
is PyTorch's form.  Since both gradients are written with operators, they can be differentiated again.
"""

import ferrox as fx


class Snake(fx.Op):
    """x + sin(a x)**2 / a, an activation for periodic functions (Ziyin, Hartwig and Ueda, 2020)."""

    reference = "x + np.sin(a * x) ** 2 / a"
    sample = "(t(3, 4), t(4, low=0.5, high=2))"
    saves = ("inputs",)

    def forward(self, x, a):
        return x + (a * x).sin() ** 2 / a

    def vjp(self, ctx, g):
        x, a = ctx.inputs
        s, c = (a * x).sin(), (a * x).cos()
        to_x = g * (1 + 2 * s * c) if ctx.needs_input_grad[0] else None
        to_a = g * (2 * s * c * x / a - s * s / (a * a)) if ctx.needs_input_grad[1] else None
        return to_x, to_a       # the engine sums what was broadcast


class LogCosh(fx.autograd.Function):
    """The mean of log(cosh(x)), a loss that is quadratic near 0 and linear far away."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x.abs() + (x.abs() * -2).exp().log1p() - 0.6931471805599453).mean()

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * x.tanh() / x.numel()


def main(steps=300):
    snake = Snake("snake")
    fx.testing.check(snake)     # forward against the reference, gradients of first and second order
    print("snake: forward, gradient and second gradient agree with their references")

    x = fx.linspace(-2.1, 1.9, 7, dtype=fx.float64).requires_grad_()
    assert fx.autograd.gradcheck(LogCosh.apply, x) and fx.autograd.gradgradcheck(LogCosh.apply, x)
    print("log-cosh: gradcheck and gradgradcheck pass")

    fx.manual_seed(0)
    inputs = fx.linspace(-3, 3, 128).reshape(128, 1)
    targets = (3 * inputs).sin() + 0.5 * inputs
    params = {
        "w1": fx.randn(1, 16, requires_grad=True),
        "b1": fx.randn(16, requires_grad=True),
        "a": fx.full((16,), 2.0, requires_grad=True),
        "w2": (fx.randn(16, 1) * 0.25).requires_grad_(),
    }
    moments = {name: fx.zeros_like(p) for name, p in params.items()}
    first = None
    for step in range(steps):
        hidden = snake(inputs @ params["w1"] + params["b1"], params["a"])
        loss = LogCosh.apply(hidden @ params["w2"] - targets)
        loss.backward()
        first = loss.item() if first is None else first
        with fx.no_grad():
            for name, p in params.items():
                moments[name] = moments[name] * 0.9 + p.grad
                p.sub_(moments[name] * 0.02)
                p.grad = None
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:4d}  loss {loss.item():.5f}")
    print(f"the loss fell from {first:.4f} to {loss.item():.4f}; the graph of the last step:")
    print(fx.viz.to_text(loss, params, colour="auto"))
    return first, loss.item()


if __name__ == "__main__":
    main()
