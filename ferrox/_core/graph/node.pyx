"""The graph: nodes, how an operator records itself, and the values it saves for its gradient.

Note [Nodes].  A node stands for one application of an operator.  Its edges lead to the nodes of its inputs, or to the
input itself where that is a leaf.  It remembers the shape and dtype of its output: the engine fits every cotangent to
them, so that a rule knows neither broadcasting nor casts.

Note [Saved values].  Each row says what the gradient of each input needs; a node saves just what the inputs that
require grad need.  An input is saved as the tensor it is, an output as an alias without history (a node that owned its
own output would never be freed); when it is read while recording, the alias gets its history back.  Policies: *keep*
(release after backward), *persist* (`with autograd.saved_values("persist")`: never released), *recompute*
(`utils.checkpoint`: nothing is saved, forward runs again).

Note [Version counters].  A storage counts its in-place changes.  A saved tensor remembers the count; if it has moved on
when the gradient reads the value, the value is wrong, and the error names both operators.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from _weakref import ref as _weak

from ferrox._core.graph.hooks import Handle as _Handle
from ferrox._core.door cimport profile
from ferrox._core.door.device cimport device_object
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.op cimport MAX_NEEDS, OUTPUT_BIT, Op
from ferrox._core.door.dispatch import tell_changes
from ferrox._core.graph.packing cimport Packed, pack, packing, unpack
from ferrox._core.tensor.base cimport TensorBase, alias, drop, is_tensor, needs_grad, no_constructor, shape_tuple, \
    track

cdef extern from *:
    """
    static __thread int fx_grad_off = 0;
    static __thread int fx_persist = 0;
    #define fx_popcount(x) __builtin_popcount(x)
    """
    bint fx_grad_off
    bint fx_persist
    int fx_popcount(uint32_t x) noexcept

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)
    void PyObject_GC_UnTrack(void *o)

profile.sequence = &totals.made
cdef bint _trace = False        # detect_anomaly: nodes remember where they were made


cdef bint grad_enabled() noexcept:
    return not fx_grad_off


cdef void set_grad(bint on) noexcept:
    global fx_grad_off
    fx_grad_off = not on


def is_grad_enabled():
    """Whether operators are recorded for gradients in this thread."""
    return not fx_grad_off


def _set_grad_enabled(bint on):
    """Switch recording in this thread; returns what it was."""
    cdef bint before = not fx_grad_off
    set_grad(on)
    return before


def _set_persist(bint on):
    """Switch the persist policy for new nodes in this thread; returns what it was."""
    global fx_persist
    cdef bint before = fx_persist
    fx_persist = on
    return before


def _set_trace(bint on):
    """Let new nodes remember the Python stack; returns what it was."""
    global _trace
    cdef bint before = _trace
    _trace = on
    tell_changes(_note_where if on else None)
    return before


@cython.final
@cython.freelist(1024)
@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Node:
    """One application of an operator in the graph (`tensor.grad_fn`)."""

    def __dealloc__(self):
        cdef int i
        if self.slot != NULL:
            totals.alive -= 1
            for i in range(self.n_in + self.n_saved):
                if self.slot[i] != NULL:
                    drop(self.slot[i])
            if self.slot != self.inline_slot:
                free(self.slot)
        if self.shape != NULL and self.shape != self.inline_shape:
            free(self.shape)

    def name(self):
        """The operator's name."""
        return self.op.name

    @property
    def operator(self):
        """The operator itself."""
        return self.op

    @property
    def shape(self):
        """Shape of the (first) output."""
        return shape_of_node(self)

    @property
    def dtype(self):
        """Name of the output's dtype."""
        return dtype_name(self.dtype)

    @property
    def device(self):
        """Where the (first) output is."""
        return device_object(self.device_type, self.device_index)

    @property
    def sequence_nr(self):
        """Nodes are numbered in the order in which they are made."""
        return self.sequence

    @property
    def next_functions(self):
        """For each input: (its node, or the leaf tensor itself, or None; which output of that node)."""
        cdef int i
        return tuple([(_or_none(self.slot[i]), self.tail[i]) for i in range(self.n_in)])

    @property
    def saved_values(self):
        """What is kept for the gradient: a dict from "input 0", "output" … to the value; empty once released."""
        cdef dict values = {}
        cdef int i = 0, bit
        for bit in range(32):
            if self.saved >> bit & 1 and not self.released:
                key = f"input {bit}" if bit < OUTPUT_BIT else f"output {bit - OUTPUT_BIT}"
                value = <object> self.slot[self.n_in + i]
                if hasattr(value, "named_values"):      # an operator written in Python keeps several values in one
                    values.update(value.named_values())
                else:
                    values[key] = value
                i += 1
        return values

    def _traceback(self):
        return None if self.meta is None else (<dict> self.meta).get("traceback")

    @property
    def metadata(self):
        """A dict for the user's own notes."""
        return _meta(self).setdefault("metadata", {})

    def register_hook(self, hook):
        """Call `hook(grad_inputs, grad_outputs)` after the node's gradient; it may return new grad_inputs.

        Returns
        -------
        handle
            With `remove()`.
        """
        return _node_handle(self, "hooks", hook)

    def register_prehook(self, hook):
        """Call `hook(grad_outputs)` before the node's gradient; it may return new grad_outputs."""
        return _node_handle(self, "prehooks", hook)

    def __repr__(self):
        return f"<{self.op.name} node, output {shape_of_node(self)} {dtype_name(self.dtype)}>"


cdef object _node_handle(Node node, str kind, object hook):
    from ferrox._core.graph.tracking import adopt

    adopt((node, hook), node.sequence)
    return _Handle(_meta(node).setdefault(kind, []), hook)


def tensor_hook(TensorBase tensor not None, hook):
    """Call `hook(grad)` when the gradient of `tensor` is computed; what it returns, if not None, replaces it."""
    from ferrox._core.graph.tracking import adopt

    cdef Node node
    if not needs_grad(tensor):
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    node = history_of(tensor)
    adopt((tensor, hook), 0 if node is None else node.sequence)
    if node is None:
        if tensor.meta is None:
            tensor.meta = {}
        return _Handle(tensor.meta.setdefault("hooks", []), hook)
    return _Handle(_meta(node).setdefault("output_hooks", {}).setdefault(tensor.output, []), hook)


cdef object _or_none(PyObject *reference):
    return None if reference == NULL else <object> reference


cdef dict _meta(Node node):
    if node.meta is None:
        node.meta = {}
    return <dict> node.meta


cdef tuple shape_of_node(Node node):
    cdef int d
    return tuple([node.shape[d] for d in range(node.ndim)])


cdef object rule(vjp_fn function):
    """A gradient rule, to be given to `row`."""
    return <size_t> <void *> function


cdef Node history_of(TensorBase tensor):
    """The node that made `tensor`, or None for a leaf; made again for a view whose base was changed in place."""
    if tensor.base != NULL and (<TensorBase> tensor.base).history != tensor.base_history:
        _refresh(tensor)
    if tensor.grad_fn == NULL:
        return None
    return <Node> tensor.grad_fn


cdef int _refresh(TensorBase tensor) except -1:
    cdef TensorBase base = <TensorBase> tensor.base
    cdef TensorBase again = view_again(base, tensor)
    take_over(tensor, again.grad_fn, again.output)
    tensor.base_history = base.history
    return 0


cdef void attach(TensorBase tensor, Node node, uint32_t output) noexcept:
    """Make output `output` of `node` the history of `tensor`."""
    cdef PyObject *before = tensor.grad_fn
    Py_INCREF(<PyObject *> node)
    tensor.grad_fn = <PyObject *> node
    tensor.output = output
    if node.tracked:
        track(tensor)
    drop(before)


cdef int retain(TensorBase tensor) except -1:
    """Have backward store the gradient of a tensor that is no leaf in its `.grad`."""
    _meta(<Node> tensor.grad_fn).setdefault("retained", []).append((tensor.output, _weak(tensor)))
    tensor.meta = {} if tensor.meta is None else tensor.meta
    tensor.meta["retains_grad"] = True
    return 0


cdef int take_over(TensorBase tensor, PyObject *node, uint32_t output) except -1:
    """Give `tensor` the history of its new value, or none.  The gradient that it retains is that of its latest value;
    hooks stay with the value they were registered on."""
    cdef PyObject *before = tensor.grad_fn
    cdef bint retains = before != NULL and tensor.meta is not None and tensor.meta.get("retains_grad", False)
    if retains:
        entries = (<Node> before).meta.get("retained", [])
        entries[:] = [entry for entry in entries if entry[1]() is not tensor]
        del tensor.meta["retains_grad"]
    if node != NULL:
        attach(tensor, <Node> node, output)
        if retains:
            retain(tensor)
    else:
        before = tensor.grad_fn
        tensor.grad_fn = NULL
        tensor.output = 0
        drop(before)
    return 0


cdef Node _new_node(Op op, PyObject **inputs, int n, int n_out, uint32_t *mask):
    """A node with its edges; `mask` receives what has to be saved."""
    cdef Node node
    cdef TensorBase tensor
    cdef uint32_t saved = 0
    cdef int i, total, n_saved
    for i in range(n):
        if is_tensor(<object> inputs[i]) and needs_grad(<TensorBase> inputs[i]):
            saved |= op.needs[i if i < MAX_NEEDS else MAX_NEEDS - 1]
    saved &= (<uint32_t> 0xffffffff << OUTPUT_BIT) | ((<uint32_t> 1 << min(n, OUTPUT_BIT)) - 1)
    n_saved = fx_popcount(saved)
    node = <Node> Node.__new__(Node)
    PyObject_GC_UnTrack(<void *> node)
    total = n + n_saved
    if total <= NODE_SLOTS:
        node.slot = node.inline_slot
        node.tail = node.inline_tail
    else:
        node.slot = <PyObject **> malloc((sizeof(PyObject *) + sizeof(uint32_t)) * <size_t> total)
        if node.slot == NULL:
            raise MemoryError()
        node.tail = <uint32_t *> (node.slot + total)
    totals.alive += 1
    node.op = op
    node.n_in = n
    node.n_out = n_out
    node.n_saved = n_saved
    node.saved = saved
    node.persist = fx_persist
    for i in range(total):
        node.slot[i] = NULL
    for i in range(n):
        node.tail[i] = 0
        if is_tensor(<object> inputs[i]):
            tensor = <TensorBase> inputs[i]
            if tensor.base != NULL and (<TensorBase> tensor.base).history != tensor.base_history:
                _refresh(tensor)
            if tensor.grad_fn != NULL:
                node.slot[i] = tensor.grad_fn
                node.tail[i] = tensor.output
                Py_INCREF(node.slot[i])
                node.tracked |= (<Node> tensor.grad_fn).tracked
            elif tensor.requires_grad_:
                node.slot[i] = <PyObject *> tensor
                Py_INCREF(node.slot[i])
                node.tracked |= tensor.meta is not None
    totals.made += 1        # after the inputs' nodes, of which `_refresh` may just have made some
    node.sequence = totals.made
    mask[0] = saved
    if _trace:
        import traceback

        _meta(node)["traceback"] = traceback.format_stack()
    return node


cdef int _save_inputs(Node node, PyObject **inputs, uint32_t mask) except -1:
    """Save the inputs in `mask`; returns the next free slot."""
    cdef int i, at = node.n_in
    cdef object value
    mask &= (1 << OUTPUT_BIT) - 1
    i = 0
    while mask:
        if mask & 1:
            value = <object> inputs[i]
            if isinstance(value, TensorBase):
                node.tail[at] = (<TensorBase> value).a.storage.version
                if packing():
                    value = pack(<TensorBase> value)
                    node.tracked = 1
            Py_INCREF(<PyObject *> value)
            node.slot[at] = <PyObject *> value
            at += 1
        mask >>= 1
        i += 1
    return at


cdef int _save_output(Node node, TensorBase out, int at) except -1:
    cdef object kept = pack(alias(out)) if packing() else alias(out)
    node.tracked |= packing()
    Py_INCREF(<PyObject *> kept)
    node.slot[at] = <PyObject *> kept
    node.tail[at] = out.a.storage.version
    return 0


cdef int _describe(Node node, TensorBase out) except -1:
    cdef int ndim = out.a.ndim
    if ndim <= NODE_DIMS:
        node.shape = node.inline_shape
    else:
        node.shape = <int64_t *> malloc(sizeof(int64_t) * <size_t> ndim)
        if node.shape == NULL:
            raise MemoryError()
    memcpy(node.shape, out.a.dims, sizeof(int64_t) * <size_t> ndim)
    node.ndim = ndim
    node.dtype = out.a.dtype
    node.device_type = out.a.device_type
    node.device_index = out.a.device_index
    return 0


cdef inline bint _any_needs_grad(PyObject **inputs, int n) noexcept:
    cdef int i
    for i in range(n):
        if is_tensor(<object> inputs[i]) and needs_grad(<TensorBase> inputs[i]):
            return True
    return False


cdef Node record(Op op, PyObject **inputs, int n, TensorBase out, object params):
    """Record `out = op(*inputs)`; None when no input requires grad, recording is off, or `out` has no gradient.

    `inputs` may hold NULL-free Python objects other than tensors (numbers); they are saved like tensors when needed.
    """
    cdef Node node
    cdef uint32_t mask
    cdef int at
    if fx_grad_off or categories[out.a.dtype] != FLOATING or not _any_needs_grad(inputs, n):
        return None
    node = _new_node(op, inputs, n, 1, &mask)
    at = _save_inputs(node, inputs, mask)
    if mask >> OUTPUT_BIT:
        _save_output(node, out, at)
    node.params = params
    _describe(node, out)
    if node.tracked:
        track(node)
    attach(out, node, 0)
    return node


cdef Node record_many(Op op, PyObject **inputs, int n, tuple outs, object params):
    """`record` for several outputs; those of integer dtype stay outside the graph."""
    cdef Node node
    cdef TensorBase out
    cdef uint32_t mask
    cdef int at, k, n_out = len(outs)
    if fx_grad_off or not _any_needs_grad(inputs, n):
        return None
    node = _new_node(op, inputs, n, n_out, &mask)
    at = _save_inputs(node, inputs, mask)
    for k in range(n_out):
        out = <TensorBase> outs[k]
        if k < 16 and mask >> (OUTPUT_BIT + k) & 1:
            _save_output(node, out, at)
            at += 1
    node.params = params
    _describe(node, <TensorBase> outs[0])
    if n_out > 1:
        _meta(node)["outputs"] = tuple([(shape_tuple(&(<TensorBase> each).a), (<TensorBase> each).a.dtype)
                                        for each in outs])
    if node.tracked:
        track(node)
    for k in range(n_out):
        out = <TensorBase> outs[k]
        if categories[out.a.dtype] == FLOATING:
            attach(out, node, k)
    return node


cdef bint wants(Node node, int i) noexcept:
    """Whether the gradient of input i is asked for."""
    return node.slot[i] != NULL


cdef object _saved(Node node, int bit):
    cdef int at
    cdef PyObject *value
    check_alive(node)
    if not node.saved >> bit & 1:
        raise RuntimeError(f"[{node.op.name}] the gradient rule reads a value that its row does not list under needs "
                           f"(bit {bit})")
    at = node.n_in + fx_popcount(node.saved & ((<uint32_t> 1 << bit) - 1))
    cdef object held = <object> node.slot[at]       # a hook may free what the node saved
    value = <PyObject *> held
    totals.reads += 1
    if isinstance(<object> value, TensorBase):
        if (<TensorBase> value).a.storage.version != node.tail[at]:
            check_version(node, <TensorBase> value, node.tail[at], f"input {bit}" if bit < OUTPUT_BIT else "the output")
    elif type(<object> value) is Packed:
        tensor = unpack(<Packed> value)
        return with_history(node, bit, tensor) if bit < OUTPUT_BIT else tensor
    return <object> value


cdef int check_alive(Node node) except -1:
    if node.released:
        raise RuntimeError(
            f"[{node.op.name}] Trying to backward through the graph a second time: the values saved for the gradient "
            "were freed by the first backward. Pass retain_graph=True to it if you need to go through the graph again.")
    return 0


cdef int check_version(Node node, TensorBase tensor, uint32_t expected, str what) except -1:
    if tensor.a.storage.version == expected:
        return 0
    cdef PyObject *changed_by = <PyObject *> tensor.a.storage.changed_by
    culprit = <object> changed_by if changed_by != NULL else "an in-place change"
    raise RuntimeError(
        f"[{node.op.name}] one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: {what} of {node.op.name}, of shape {shape_tuple(&tensor.a)}, was changed by {culprit} after it "
        f"was saved (version {tensor.a.storage.version}, expected {expected})." + _changed_where(tensor))


cdef object _identity(Node node, object g):
    return g


cdef Op _ALIAS = Op("alias")
_ALIAS.vjp = <void *> _identity


cdef object with_history(Node node, int i, TensorBase tensor):
    """An unpacked value of input i, joined to that input's history while gradients are being recorded."""
    cdef PyObject *target = node.slot[i]
    cdef TensorBase again
    if fx_grad_off or target == NULL:
        return tensor
    again = alias(tensor)
    if type(<object> target) is Node:
        attach(again, <Node> target, node.tail[i])
    else:
        record(_ALIAS, &target, 1, again, None)
    return again


_changes = {}       # detect_anomaly: storage address -> where it was changed in place last


def _note_where(address):
    import traceback

    _changes[address] = "".join(traceback.format_stack())


cdef str _changed_where(TensorBase tensor):
    where = _changes.get(<size_t> tensor.a.storage)
    known = f" It was changed here:\n{where}"
    return known if where is not None else " Run under autograd.detect_anomaly() to see where."


cdef object saved_input(Node node, int i):
    """Input i as saved."""
    return _saved(node, i)


cdef object saved_output(Node node, int k):
    """Output k as saved; with its history while gradients are being recorded."""
    cdef TensorBase kept = <TensorBase> _saved(node, OUTPUT_BIT + k)
    cdef TensorBase again
    if fx_grad_off:
        return kept
    again = alias(kept)
    attach(again, node, k)
    return again


cdef void release_saved(Node node) noexcept:
    """Free the saved values, unless the node persists."""
    cdef int i
    cdef PyObject *value
    if node.persist or node.n_saved == 0:
        return
    node.released = 1
    for i in range(node.n_in, node.n_in + node.n_saved):
        value = node.slot[i]
        node.slot[i] = NULL
        drop(value)


no_constructor(Node)
