"""Sums of products by Einstein's convention: operands are permuted and reshaped, pair by pair, for a matrix product."""
from ferrox._core.dtype cimport promotions
from ferrox._core.graph.op import operators, row
from ferrox._core.ops.elementwise cimport as_operand
from ferrox._core.ops.matmul cimport matmul
from ferrox._core.ops.reduction cimport sum_dims
from ferrox._core.ops.shape cimport expand, permute, reshape, to_dtype
from ferrox._core.tensor.base cimport TensorBase


def _pair(TensorBase x, list labels_x, TensorBase y, list labels_y, keep):
    """The product of two labelled tensors, summed over labels that are in both but not in `keep`; (tensor, labels)."""
    both = [c for c in labels_x if c in labels_y]
    x, y = to_dtype(x, promotions[x.a.dtype][y.a.dtype]), to_dtype(y, promotions[x.a.dtype][y.a.dtype])
    batch = [c for c in both if c in keep]
    inner = [c for c in both if c not in keep]
    left = [c for c in labels_x if c not in both]
    right = [c for c in labels_y if c not in both]
    size = {}
    for labels, t in ((labels_x, x), (labels_y, y)):
        for c, n in zip(labels, t.shape):
            size[c] = max(n, size.get(c, 1)) if n and size.get(c, 1) else 0

    def arranged(TensorBase t, labels, groups):
        full = [size[c] if c in both else n for c, n in zip(labels, t.shape)]
        t = permute(expand(t, full), [labels.index(c) for group in groups for c in group])
        sizes = [size[c] for c in groups[0]]
        for group in groups[1:]:
            product = 1
            for c in group:
                product *= size[c]
            sizes.append(product)
        return reshape(t, sizes)

    made = matmul(arranged(x, labels_x, (batch, left, inner)), arranged(y, labels_y, (batch, inner, right)))
    return reshape(made, [size[c] for c in batch + left + right]), batch + left + right


cdef tuple _labelled(tuple args):
    """(equation, operands) of the form einsum(a, [0, 1], b, [1, 2], [0, 2])."""
    cdef list terms = []
    for labels in args[1::2] if len(args) % 2 == 0 else (*args[1:-1:2], args[-1]):
        if not isinstance(labels, (list, tuple)):
            raise TypeError(f"einsum(): expected a list of labels behind each operand, got {type(labels).__name__}")
        term = ""
        for label in labels:
            if label is Ellipsis:
                term += "..."
            elif isinstance(label, int) and 0 <= label < 52:
                term += chr(ord("A") + label if label < 26 else ord("a") + label - 26)
            else:
                raise ValueError(f"einsum(): a label must be Ellipsis or an integer from 0 to 51, got {label!r}")
        terms.append(term)
    if len(args) % 2 == 0:
        return ",".join(terms), args[::2]
    return ",".join(terms[:-1]) + "->" + terms[-1], args[:-1:2]


def _einsum(equation, *operands):
    """Sums of products by Einstein's convention, as `numpy.einsum`.

    Parameters
    ----------
    equation : str
        Labels of each operand's dimensions, "ij,jk->ik"; "..." stands for any further ones, which are broadcast.  Or no
        equation, but a list of integer labels (below 52) behind each operand, and one for the result if wanted.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.einsum("ij,ij->i", fx.ones(2, 3), fx.ones(2, 3))
    tensor([3., 3.])
    """
    if isinstance(equation, TensorBase):
        equation, operands = _labelled((equation, *operands))
    elif not isinstance(equation, str):
        raise TypeError(f"einsum(): the first argument must be an equation or a tensor, got {type(equation).__name__}")
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = operands[0]
    for each in operands:
        if not isinstance(each, TensorBase):
            raise TypeError(f"einsum(): operands must be tensors, got {type(each).__name__}")
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise RuntimeError(f"einsum(): the number of subscripts in the equation ({len(terms)}) does not match the "
                           f"number of operands ({len(operands)})")
    tensors, labels, widest = [], [], 0
    for term, x in zip(terms, operands):
        x = as_operand(x, "einsum")
        plain = term.replace("...", "")
        if not all(c.isalpha() and c.isascii() for c in plain) or term.count("...") > 1:
            raise RuntimeError(f"einsum(): invalid subscript given, subscripts must be in [a-zA-Z]: {term!r}")
        extra = x.ndim - len(plain)
        if extra < 0 or (extra and "..." not in term):
            raise RuntimeError(f"einsum(): the number of subscripts in {term!r} does not match the {x.ndim} dimensions "
                               "of the operand")
        before, dots, after = term.partition("...")
        names = list(before) + ([f".{k}" for k in range(extra, 0, -1)] if dots else []) + list(after)
        widest = max(widest, extra if dots else 0)
        # A label that is repeated in one operand takes the diagonal.
        d = 0
        while d < len(names):
            first = names.index(names[d])
            if first != d:
                if x.size(first) != x.size(d):
                    raise RuntimeError(f"einsum(): subscript {names[d]} is repeated for operand of sizes "
                                       f"{x.size(first)} and {x.size(d)}")
                x = operators()["diagonal"](x, 0, first, d)
                names = [c for k, c in enumerate(names) if k not in (first, d)] + [names[d]]
                d = 0
                continue
            d += 1
        tensors.append(x)
        labels.append(names)
    dots = [f".{k}" for k in range(widest, 0, -1)]
    if arrow:
        if right.count("...") > 1:
            raise RuntimeError(f"einsum(): the ellipsis appears more than once in {right!r}")
        before, ellipsis, after = right.partition("...")
        output = list(before) + (dots if ellipsis else []) + list(after)
    else:
        everything = left.replace(",", "").replace(".", "")
        output = dots + sorted(c for c in set(everything) if everything.count(c) == 1)
    known = {}
    for names, x in zip(labels, tensors):
        for c, n in zip(names, x.shape):
            if known.setdefault(c, n) != n:
                if known[c] != 1 and n != 1:
                    raise RuntimeError(f"einsum(): operands do not broadcast with remapped shapes: subscript {c} has "
                                       f"sizes {known[c]} and {n}")
                known[c] = max(known[c], n)
    if len(set(output)) != len(output) or any(c not in known for c in output):
        raise RuntimeError(f"einsum(): the output subscripts {right!r} must be different ones that appear in an input")
    x, names = tensors[0], labels[0]
    for k in range(1, len(tensors)):
        later = {c for each in labels[k + 1:] for c in each} | set(output)
        x, names = _summed(x, names, later | set(labels[k]))
        y, other = _summed(tensors[k], labels[k], later | set(names))
        x, names = _pair(x, names, y, other, later)
    x, names = _summed(x, names, set(output))
    return permute(x, [names.index(c) for c in output])


def _summed(TensorBase x, list names, keep):
    """Labels that nobody else needs are summed away."""
    dims = [d for d, c in enumerate(names) if c not in keep]
    if dims:
        x = to_dtype(sum_dims(x, dims, False), x.a.dtype)
    return x, [c for c in names if c in keep]


row("einsum", function=_einsum, composite=True, reference="np.einsum(equation, *operands)",
    sample="[('ij,jk->ik', t(3, 4), t(4, 2)), ('bij,bjk', t(2, 3, 4), t(2, 4, 2)), ('ii->i', t(3, 3)), "
           "('...i,...i->...', t(2, 3, 4), t(3, 4)), ('ij,jk,kl->il', t(2, 3), t(3, 4), t(4, 2))]")
