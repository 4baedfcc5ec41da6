"""Every promised name is there: as a function, and as a method and in-place method where PyTorch has one."""

import pytest

import ferrox as fx

FAMILIES = {
    "creation": """tensor as_tensor from_numpy from_dlpack zeros ones full empty zeros_like ones_like full_like
        empty_like
        arange linspace logspace eye tril triu tril_indices triu_indices diag meshgrid nn:one_hot""",
    "random": """manual_seed Generator rand randn randint randperm normal bernoulli multinomial rand_like randn_like
        randint_like""",
    "pointwise": """abs neg sign exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal sin cos tan
        asin acos atan
        sinh cosh tanh asinh acosh atanh sigmoid logit erf erfc erfinv lgamma digamma floor ceil round trunc frac
        clamp nan_to_num isnan isinf isfinite add sub mul div floor_divide remainder fmod pow float_power maximum
        minimum fmax fmin atan2 hypot copysign logaddexp logaddexp2 xlogy sinc heaviside lerp addcmul addcdiv
        where eq ne lt le gt ge isclose allclose equal logical_and logical_or logical_xor logical_not bitwise_and
        bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift""",
    "activations": """relu nn:relu6 nn:leaky_relu prelu nn:elu selu celu nn:gelu nn:silu nn:mish nn:softplus nn:softsign
        nn:hardtanh nn:hardsigmoid nn:hardswish nn:logsigmoid nn:tanhshrink nn:softshrink hardshrink threshold
        nn:glu softmax log_softmax nn:softmin nn:gumbel_softmax nn:normalize""",
    "reductions": """sum mean prod var std var_mean std_mean max min amax amin aminmax argmax argmin all any
        count_nonzero
        logsumexp norm nansum nanmean median quantile cumsum cumprod cummax cummin logcumsumexp""",
    "products": "matmul mm bmm mv dot outer inner addmm addmv baddbmm einsum tensordot nn:linear",
    "movement": """reshape flatten unflatten ravel squeeze unsqueeze transpose t permute movedim swapaxes broadcast_to
        broadcast_tensors repeat_interleave tile cat stack hstack vstack dstack split chunk tensor_split unbind
        narrow select roll flip rot90 diagonal diag_embed as_strided nn:pad""",
    "indexing": """index_select gather scatter scatter_add scatter_reduce take take_along_dim masked_fill masked_select
        index_add index_copy index_put nonzero argwhere searchsorted bucketize sort argsort topk kthvalue unique
        bincount histc""",
    "losses": """nn:mse_loss nn:l1_loss nn:smooth_l1_loss nn:huber_loss nn:binary_cross_entropy
        nn:binary_cross_entropy_with_logits nn:nll_loss nn:cross_entropy nn:kl_div nn:hinge_embedding_loss
        nn:margin_ranking_loss nn:cosine_embedding_loss nn:triplet_margin_loss nn:gaussian_nll_loss
        nn:poisson_nll_loss nn:soft_margin_loss nn:multi_margin_loss nn:cosine_similarity nn:pairwise_distance""",
    "regularisation": """nn:batch_norm nn:layer_norm nn:rms_norm nn:dropout nn:embedding
        nn:scaled_dot_product_attention""",
}
METHODS_ONLY = [
    "size",
    "dim",
    "numel",
    "stride",
    "element_size",
    "requires_grad_",
    "retain_grad",
    "register_hook",
    "detach",
    "detach_",
    "item",
    "tolist",
    "numpy",
    "to",
    "cpu",
    "cuda",
    "type",
    "float",
    "double",
    "half",
    "bfloat16",
    "int",
    "long",
    "bool",
    "contiguous",
    "is_contiguous",
    "clone",
    "copy_",
    "fill_",
    "zero_",
    "view",
    "view_as",
    "expand",
    "expand_as",
    "repeat",
    "unfold",
    "reshape_as",
    "uniform_",
    "normal_",
    "exponential_",
    "bernoulli_",
    "random_",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "new_tensor",
    "backward",
    "data_ptr",
    "is_floating_point",
    "type_as",
    "masked_fill_",
    "clamp_",
    "add_",
    "sub_",
    "mul_",
    "div_",
    "pow_",
    "__array__",
    "__dlpack__",
    "__dlpack_device__",
    "__array_namespace__",
    "__matmul__",
    "__rmatmul__",
    "__pow__",
    "__rpow__",
    "__iadd__",
    "__getitem__",
    "__setitem__",
    "__len__",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "__iter__",
    "__invert__",
    "__and__",
    "__rsub__",
]
ATTRIBUTES = ["shape", "dtype", "device", "ndim", "is_leaf", "requires_grad", "grad", "grad_fn", "data", "T", "mT", "H"]
# Wanted of a later stage: the Python array API (`ferrox.array_api`).
LATER = {"__array_namespace__"}


def names(family):
    return [each.removeprefix("nn:") for each in FAMILIES[family].split()]


@pytest.mark.parametrize("family", FAMILIES)
def test_functions(family):
    missing = [
        each
        for each in FAMILIES[family].split()
        if not hasattr(fx.nn.functional if each.startswith("nn:") else fx, each.removeprefix("nn:"))
    ]
    assert not missing, f"missing functions: {' '.join(missing)}"


@pytest.mark.parametrize("family", FAMILIES)
def test_methods(family):
    torch = pytest.importorskip("torch")
    missing = [name for name in names(family) if hasattr(torch.Tensor, name) and not hasattr(fx.Tensor, name)]
    assert not missing, f"missing methods: {' '.join(missing)}"


@pytest.mark.parametrize("family", FAMILIES)
def test_in_place_methods(family):
    torch = pytest.importorskip("torch")
    missing = [
        name + "_" for name in names(family) if hasattr(torch.Tensor, name + "_") and not hasattr(fx.Tensor, name + "_")
    ]
    assert not missing, f"missing in-place methods: {' '.join(missing)}"


def test_tensor():
    x = fx.zeros(2, 2)
    missing = [name for name in METHODS_ONLY if not hasattr(fx.Tensor, name) and name not in LATER]
    missing += [name for name in ATTRIBUTES if not hasattr(x, name)]
    assert not missing, f"missing: {' '.join(missing)}"
    assert not [name for name in LATER if hasattr(fx.Tensor, name)], "LATER is out of date"
