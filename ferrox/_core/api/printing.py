"""Tensors as text, as PyTorch prints them, and as HTML for notebooks."""
import contextlib
import math

_PROFILES = {"default": (4, 1000, 3), "short": (2, 1000, 2), "full": (4, math.inf, 3)}
_options = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """Set how tensors are printed.

    Parameters
    ----------
    precision : int, optional
        Digits after the point; 4 at first.
    threshold : int, optional
        Number of elements beyond which only the edges are shown; 1000 at first.
    edgeitems : int, optional
        Elements at each end of a dimension that are shown then; 3 at first.
    linewidth : int, optional
        Characters in a line; 80 at first.
    profile : {"default", "short", "full"}, optional
        A set of these options; the other arguments override it.
    sci_mode : bool, optional
        Scientific notation always or never; None, which every call without it sets again, decides by the values.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.set_printoptions(precision=2)
    >>> fx.tensor([1.23456])
    tensor([1.23])
    >>> fx.set_printoptions(profile="default")
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"[set_printoptions] profile must be one of {', '.join(_PROFILES)}, got {profile!r}")
        _options["precision"], _options["threshold"], _options["edgeitems"] = _PROFILES[profile]
        _options["linewidth"] = 80
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({name: value for name, value in given.items() if value is not None}, sci_mode=sci_mode)


def get_printoptions():
    """The options of `set_printoptions` as a dict."""
    return dict(_options)


@contextlib.contextmanager
def printoptions(**options):
    """Set print options inside a `with` block."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        _options.update(before)


def _flatten(values, out):
    if isinstance(values, list):
        for each in values:
            _flatten(each, out)
    elif values is not ...:
        out.append(values)
    return out


class _Format:
    """How the numbers of one tensor are written: one width for all."""

    def __init__(self, numbers, floating):
        self.floating = floating
        self.scientific = self.whole = False
        self.width = 1
        if not floating:
            self.width = max([1, *(len(str(number)) for number in numbers)])
            return
        self.whole = True
        shown = [number for number in numbers if number and math.isfinite(number)]
        if not shown:
            return
        magnitudes = [abs(number) for number in shown]
        low, high = min(magnitudes), max(magnitudes)
        self.whole = all(number == math.floor(number) for number in shown)
        self.scientific = _options["sci_mode"]
        if self.scientific is None:
            self.scientific = high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
        self.width = max([1, *(len(self._text(number)) for number in shown)])

    def _text(self, number):
        if not self.floating:
            return str(number)
        if self.scientific:
            return f"{number:.{_options['precision']}e}"
        if self.whole:
            return f"{number:.0f}." if math.isfinite(number) else f"{number:.0f}"
        return f"{number:.{_options['precision']}f}"

    def __call__(self, number):
        return self._text(number).rjust(self.width)


def _vector(numbers, indent, write):
    per_line = max(1, (_options["linewidth"] - indent) // (write.width + 2))
    cells = [" ..." if number is ... else write(number) for number in numbers]
    if cells == [" ..."]:
        cells = ["..."]
    lines = [", ".join(cells[i:i + per_line]) for i in range(0, len(cells), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(values, ndim, indent, write):
    if ndim == 0:
        return write(values)
    if ndim == 1:
        return _vector(values, indent, write)
    parts = ["..." if each is ... else _nested(each, ndim - 1, indent + 1, write) for each in values]
    return "[" + ("," + "\n" * (ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def contents(tensor, indent=0):
    """The numbers in brackets."""
    if tensor.numel() == 0:
        return "[]"
    values = tensor._nested(_options["edgeitems"] if tensor.numel() > _options["threshold"] else -1)
    return _nested(values, tensor.ndim, indent, _Format(_flatten(values, []), tensor.is_floating_point()))


def text(tensor, default_dtype, prefix):
    """The whole: `prefix(numbers, dtype=…, device=…, grad_fn=…)`."""
    prefix += "("
    name = tensor.dtype.name
    usual = name == default_dtype.name
    if tensor.numel():
        usual = usual or name in ("int64", "bool")
    parts = []
    if tensor.device.type != "cpu":
        parts.append(f"device='{tensor.device}'")
    if (tensor.numel() == 0 and tensor.ndim != 1) or (tensor.numel() and not _options["edgeitems"]):
        parts.append(f"size={tuple(tensor.shape)}")
    if not usual:
        parts.append(f"dtype={tensor.dtype}")
    if tensor.grad_fn is not None:
        parts.append(f"grad_fn=<{tensor.grad_fn.name()}>")
    elif tensor.requires_grad:
        parts.append("requires_grad=True")
    out = prefix + contents(tensor, len(prefix))
    last = len(out) - out.rfind("\n") + 1
    for part in parts:
        if last + len(part) + 2 > _options["linewidth"]:
            out += ",\n" + " " * len(prefix) + part
            last = len(prefix) + len(part)
        else:
            out += ", " + part
            last += len(part) + 2
    return out + ")"


def html(tensor, text):
    """A table for a notebook, abridged like the text; tensors with other than one or two dimensions as their text."""
    import html as _html

    if tensor.ndim not in (1, 2) or tensor.numel() == 0:
        return f"<pre>{_html.escape(text)}</pre>"
    edge = max(1, _options["edgeitems"])
    longest = max(tensor.shape)
    values = tensor._nested(edge if tensor.numel() > 100 or longest > 20 else -1)
    write = _Format(_flatten(values, []), tensor.is_floating_point())
    rows = [values] if tensor.ndim == 1 else values
    width = max(len(row) for row in rows if row is not ...)
    cells = []
    for row in rows:
        if row is ...:
            cells.append(f"<tr><td colspan='{width}' style='text-align:center'>&#8942;</td></tr>")
        else:
            columns = ("&#8943;" if number is ... else _html.escape(write(number).strip()) for number in row)
            cells.append("<tr>" + "".join(f"<td>{column}</td>" for column in columns) + "</tr>")
    shape = " &times; ".join(str(size) for size in tensor.shape)
    facts = [shape, tensor.dtype.name, str(tensor.device)]
    if tensor.grad_fn is not None:
        facts.append(_html.escape(f"grad_fn=<{tensor.grad_fn.name()}>"))
    elif tensor.requires_grad:
        facts.append("requires_grad")
    return f"<table><caption>tensor: {', '.join(facts)}</caption>{''.join(cells)}</table>"
