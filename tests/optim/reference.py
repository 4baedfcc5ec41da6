"""Plain reference of the two multi-tensor optimiser kernels, one tensor at a time with elementary operations."""

import math

import ferrox as fx


def sgd_step(params, grads, momentum_buffers, lr, momentum, dampening, nesterov, weight_decay, maximize, first_step):
    """Update `params` (and `momentum_buffers`, or None) in place; `first_step` seeds the buffers with the gradient."""
    with fx.no_grad():
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            d = -g if maximize else g
            if weight_decay != 0:
                d = d + weight_decay * p
            if momentum_buffers is not None:
                buf = momentum_buffers[i]
                buf.copy_(d if first_step else momentum * buf + (1 - dampening) * d)
                d = d + momentum * buf if nesterov else buf
            p.sub_(float(lr) * d)


def adam_step(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step, lr, beta1, beta2, eps, weight_decay, amsgrad,
    maximize, decoupled,
):  # fmt: skip
    """Update `params` and the moments in place; `step` counts from 1 and is already that of this update."""
    lr, beta1, beta2 = float(lr), float(beta1), float(beta2)
    correction1 = 1 - beta1**step
    correction2_sqrt = math.sqrt(1 - beta2**step)
    with fx.no_grad():
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            d = -g if maximize else g
            if weight_decay != 0:
                if decoupled:
                    p.mul_(1 - lr * weight_decay)
                else:
                    d = d + weight_decay * p
            exp_avgs[i].mul_(beta1).add_((1 - beta1) * d)
            exp_avg_sqs[i].mul_(beta2).add_((1 - beta2) * d * d)
            second = exp_avg_sqs[i]
            if amsgrad:
                max_exp_avg_sqs[i].copy_(fx.maximum(max_exp_avg_sqs[i], second))
                second = max_exp_avg_sqs[i]
            p.sub_((lr / correction1) * exp_avgs[i] / (second.sqrt() / correction2_sqrt + eps))
