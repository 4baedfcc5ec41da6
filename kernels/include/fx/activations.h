/* What the activations and losses of elementwise.h need beyond scalar.h. */
#ifndef FX_ACTIVATIONS_H
#define FX_ACTIVATIONS_H
#include "scalar.h"

namespace fx {

template <class T> FX_HD T hardsigmoid(T x) {
    T y = x + T(3);
    y = y < T(0) ? T(0) : y > T(6) ? T(6) : y;
    return y / T(6);
}

template <class T> FX_HD T silu_slope(T x) {
    T s = sigmoid(x);
    return s * (T(1) + x * (T(1) - s));
}

/* x tanh(softplus(x)) = x n / (n + 2), n = e (e + 2), e = exp(x); the identity from 20 on. */
template <class T> FX_HD T mish(T x) {
    T e = exp(x > T(20) ? T(20) : x), n = e * (e + T(2));
    return x > T(20) ? x : x * (n / (n + T(2)));
}
template <class T> FX_HD T mish_slope(T x) {
    T e = exp(x > T(20) ? T(20) : x), n = e * (e + T(2)), d = T(1) / (n + T(2));
    T y = n * d + x * (T(4) * e * (T(1) + e) * d * d);
    return x > T(20) ? T(1) : y;
}

/* 0.5 (1 + tanh(u)) = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
template <class T> FX_HD T gelu_tanh_slope(T x) {
    T s = sigmoid(T(1.59576912160573071176) * (x + T(0.044715) * x * x * x));
    T du = T(1.59576912160573071176) * (T(1) + T(3 * 0.044715) * x * x);
    T rest = s * (T(1) - s);
    return s + (rest == T(0) ? T(0) : x * rest * du); /* the slope of u may be infinite where s is flat */
}

/* Logarithms are held above -100, as PyTorch does, so that a certain and wrong prediction has a finite loss. */
template <class T> FX_HD T bce(T x, T target) {
    T yes = maximum(log(x), T(-100)), no = maximum(log1p(-x), T(-100));
    return (target - T(1)) * no - target * yes;
}

/* Each target's own part of the loss, so that a certain and right prediction keeps its digits. */
template <class T> FX_HD T bce_with_logits(T x, T target) {
    return (T(1) - target) * maximum(x, T(0)) + target * maximum(-x, T(0)) + log1p(exp(-absolute(x)));
}
template <class T> FX_HD T bce_with_logits_slope(T x, T target) {
    T e = exp(-absolute(x)), far = T(1) / (T(1) + e), near = e * far;
    return (T(1) - target) * (x < T(0) ? near : far) - target * (x < T(0) ? far : near);
}

/* Of a difference d: a parabola up to beta (delta), a line beyond. */
template <class T> FX_HD T smooth_l1(T d, T beta) {
    T a = absolute(d);
    return a < beta ? T(0.5) * d * d / beta : a - T(0.5) * beta;
}
template <class T> FX_HD T huber(T d, T delta) {
    T a = absolute(d);
    return a < delta ? T(0.5) * d * d : delta * (a - T(0.5) * delta);
}

} // namespace fx
#endif
