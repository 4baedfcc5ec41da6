"""Operators written in Python: the user's own `fx.Op`, and `autograd.Function`.

Both record one node for a whole forward, whose rule calls back into Python.  The node keeps all saved values in one
object, `Kept`, since their number is the user's.

Note [Outputs of Python].  An output must own its history: forward may return one of its inputs, a view of one, the same
tensor twice, or a tensor that someone else holds.  What shares memory with an input or an earlier output, or has a
history already, is copied, so that no in-place change can pass by the graph; what an `Op`'s forward returned and still
holds elsewhere is aliased.  An input named by `mark_dirty` was changed in place and takes over the node as its history.

Nodes made here are tracked by the cyclic collector, and so are their outputs (Note [Tracking], graph/tracking.pyx): a
context may refer back to an output.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from ferrox._core.graph cimport op as op_module
from ferrox._core.abi cimport FX_MAX_DIMS
from ferrox._core.door.device cimport device as _device, device_object
from ferrox._core.dtype cimport FLOATING, categories
from ferrox._core.door.dispatch cimport count_change
from ferrox._core.graph.node cimport Node, attach, check_alive, check_version, grad_enabled, record_many, set_grad, \
    shape_of_node, take_over, with_history
from ferrox._core.graph.op cimport MAX_NEEDS, Op
from ferrox._core.ops.elementwise cimport check_leaf, rebase
from ferrox._core.graph.packing cimport Packed, pack, packing, unpack
from ferrox._core.graph.unrecorded cimport unrecorded
from ferrox._core.tensor.base cimport TensorBase, alias, drop, needs_grad, new_tensor, no_constructor, shape_tuple, \
    sole, track, unshared
from ferrox._core.tensor.frame cimport converted, set_to

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)
    ctypedef struct PyTupleItems "PyTupleObject":
        PyObject *ob_item[1]
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET

cdef enum:
    NEITHER = -(1 << 20)        # place of a saved tensor that is neither an input nor an output, and
    CONSTANT = NEITHER - 1      # of one that was said to have no derivative
    KEPT_BIT = 31               # in Op.needs: a slot for the Kept object


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Kept:
    """The values that a node of an operator written in Python saved."""
    cdef list values        # tensors, or Packed
    cdef list versions
    cdef list places        # i >= 0: input i; -1 - k: output k; NEITHER

    def tensors(self):
        return self.values

    def named_values(self):
        return {f"saved {k}": value for k, value in enumerate(self.values)}

    cdef int add(self, object value, int place) except -1:
        cdef TensorBase tensor
        if value is None:
            self.versions.append(0)
        else:
            tensor = <TensorBase> value
            self.versions.append(tensor.a.storage.version)
            if NEITHER < place < 0:
                tensor = alias(tensor)
            value = pack(tensor) if packing() and not (place <= NEITHER and needs_grad(tensor)) else tensor
        self.values.append(value)
        self.places.append(place)
        return 0


cdef Kept _new_kept():
    cdef Kept kept = Kept()
    kept.values = []
    kept.versions = []
    kept.places = []
    return kept


cdef object _kept(Node node, int at):
    """The value at `at` of what `node` keeps, with its history while gradients are being recorded."""
    cdef Kept kept
    cdef TensorBase tensor, again
    cdef int place
    check_alive(node)
    kept = <Kept> <object> node.slot[node.n_in]
    value = kept.values[at]
    place = kept.places[at]
    if value is None:
        return None
    if type(value) is Packed:
        tensor = unpack(<Packed> value)
    else:
        tensor = <TensorBase> value
        check_version(node, tensor, kept.versions[at], "a saved tensor" if place <= NEITHER else
                      f"input {place}" if place >= 0 else f"output {-1 - place}")
    if place >= 0:
        return with_history(node, place, tensor) if type(value) is Packed else tensor
    if place == CONSTANT or not grad_enabled():
        return tensor
    if categories[tensor.a.dtype] != FLOATING:
        return tensor
    if place == NEITHER:
        return unrecorded(node, tensor, f"saved tensor {at}")
    again = alias(tensor)
    attach(again, node, <uint32_t> (-1 - place))
    return again


cdef TensorBase _zeros(tuple shape, int dtype, Node node):
    cdef int64_t sizes[FX_MAX_DIMS]
    cdef int d
    cdef TensorBase out
    for d in range(<int> len(shape)):
        sizes[d] = shape[d]
    out = new_tensor(<int> len(shape), sizes, dtype, node.device_type, node.device_index)
    set_to(out, 0)
    return out


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Call:
    """What one call left for the gradient: in `node.params`."""
    cdef object context         # of a Function
    cdef tuple arguments        # positional arguments, None in place of a tensor
    cdef tuple tensors          # which of them are tensors
    cdef dict params
    cdef list positions         # of each tensor among the outputs
    cdef list unrecorded        # names of attributes of `context` that hold tensors without a history
    cdef int n_outputs


cdef tuple _cotangents(Node node, object g, bint materialise):
    cdef Call call = <Call> node.params
    cdef list given = [None] * call.n_outputs
    cdef int k
    for k in range(node.n_out):
        piece = g if node.n_out == 1 else (<list> g)[k]
        if piece is None and materialise:
            shape, dtype = (<dict> node.meta)["outputs"][k]
            if categories[<int> dtype] == FLOATING:
                piece = _zeros(shape, dtype, node)
        given[<int> call.positions[k]] = piece
    return tuple(given)


cdef tuple _expected_shape(Node node, int i):
    cdef PyObject *target = node.slot[i]
    cdef Node following
    if type(<object> target) is Node:
        following = <Node> target
        if following.n_out > 1:
            return (<dict> following.meta)["outputs"][node.tail[i]][0]
        return shape_of_node(following)
    return shape_tuple(&(<TensorBase> target).a)


cdef _device _expected_device(Node node, int i):
    cdef PyObject *target = node.slot[i]
    cdef Node following
    if type(<object> target) is Node:
        following = <Node> target
        return device_object(following.device_type, following.device_index)
    return (<object> target).device


cdef bint _expands_to(tuple small, tuple large) noexcept:
    """Whether `small` broadcasts to `large`."""
    cdef Py_ssize_t lead = len(large) - len(small), d
    if lead < 0:
        return False
    for d in range(len(small)):
        if small[d] != large[d + lead] and small[d] != 1:
            return False
    return True


cdef object _checked(Node node, object result, str rule):
    """The gradients that Python returned: one for each input, of a fitting shape."""
    cdef Call call = <Call> node.params
    cdef int i
    cdef tuple shape, expected
    if isinstance(result, list):
        result = tuple(result)
    elif not isinstance(result, tuple):
        result = (result,)
    given = len(result)
    while given > node.n_in and result[given - 1] is None:
        given -= 1
    if given != node.n_in:
        raise RuntimeError(f"[{node.op.name}] function {rule} returned an incorrect number of gradients "
                           f"(expected {node.n_in}, got {given})")
    for i in range(node.n_in):
        piece = result[i]
        if piece is None:
            continue
        if not call.tensors[i]:
            raise RuntimeError(f"[{node.op.name}] function {rule} returned a gradient different than None at position "
                               f"{i + 1}, but the corresponding forward input was not a Variable")
        if not isinstance(piece, TensorBase):
            raise TypeError(f"[{node.op.name}] function {rule} returned {type(piece).__name__} at position {i + 1}, "
                            "expected Variable or None")
        if node.slot[i] == NULL:
            continue
        shape = shape_tuple(&(<TensorBase> piece).a)
        expected = _expected_shape(node, i)
        place = _expected_device(node, i)
        if piece.device != place:
            raise RuntimeError(f"[{node.op.name}] Function {rule} returned an invalid gradient at index {i} - expected "
                               f"device {place} but got {piece.device}")
        if shape != expected and not _expands_to(expected, shape):
            raise RuntimeError(f"[{node.op.name}] Function {rule} returned an invalid gradient at index {i} - got "
                               f"{list(shape)} but expected shape compatible with {list(expected)}")
    return result if given == len(result) else result[:given]


cdef object _finish(Op op, tuple arguments, object result, bint recording, Call call, bint function,
                    tuple dirty, tuple plain, object saving):
    """Record a call by Note [Outputs of Python]; returns what the caller gets.

    `saving(inputs, outputs)` gives the Kept.
    """
    cdef bint single = not isinstance(result, tuple) and (function or not isinstance(result, list))
    cdef list outputs = [result] if single else list(result)
    cdef list originals = list(outputs), recorded = []
    cdef TensorBase tensor
    cdef Node node = None
    cdef int k, n = len(outputs)
    cdef bint any_output = False
    cdef bint alone = single or unshared(<PyObject *> result)
    cdef PyObject *held
    for each in dirty:
        if not isinstance(each, TensorBase):
            raise TypeError(f"[{op.name}] mark_dirty takes tensors, got {type(each).__name__}")
        if not _among(each, outputs):
            raise RuntimeError(f"[{op.name}] Some elements marked as dirty during the forward method were not returned "
                               "as output. The inputs that are modified inplace must all be outputs of the Function.")
        if recording:
            check_leaf(<TensorBase> each)
        count_change(op.name, &(<TensorBase> each).a)
    cdef set storages = {<size_t> (<TensorBase> each).a.storage for each in arguments if isinstance(each, TensorBase)}
    call.positions = []
    call.n_outputs = n
    for k in range(n):
        if not isinstance(outputs[k], TensorBase):
            continue
        tensor = <TensorBase> outputs[k]
        if _among(tensor, dirty):
            if recording:
                outputs[k] = alias(tensor)
        elif needs_grad(tensor) or <size_t> tensor.a.storage in storages:
            outputs[k] = converted(tensor, tensor.a.dtype)
        elif not function and not (alone and sole(<PyObject *> tensor, 4)):     # result, originals, outputs, tensor
            outputs[k] = alias(tensor)
        storages.add(<size_t> (<TensorBase> outputs[k]).a.storage)
        recorded.append(outputs[k])
        call.positions.append(k)
        if categories[tensor.a.dtype] == FLOATING and not _among(originals[k], plain):
            any_output = True
    if recording and any_output:
        node = record_many(op, (<PyTupleItems *> <PyObject *> arguments).ob_item, <int> len(arguments), tuple(recorded),
                           call)
    if node is not None:
        # The slot for Kept; with more than fifteen outputs record_many took it for the sixteenth.
        held = node.slot[node.n_in]
        node.slot[node.n_in] = NULL
        drop(held)
        kept = saving(arguments, originals)
        Py_INCREF(<PyObject *> kept)
        node.slot[node.n_in] = <PyObject *> kept
        track(node)
        node.tracked = 1
        for k in range(n):
            if not isinstance(outputs[k], TensorBase):
                continue
            tensor = <TensorBase> outputs[k]
            if _among(originals[k], plain):
                take_over(tensor, NULL, 0)
            elif _among(originals[k], dirty):
                rebase(<TensorBase> originals[k], tensor)
            track(tensor)
    for k in range(n):
        if _among(originals[k], dirty):
            outputs[k] = originals[k]
    return outputs[0] if single else tuple(outputs)


cdef bint _among(object value, object values) noexcept:
    for each in values:
        if each is value:
            return True
    return False


# The user's own operator

@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class OpContext:
    """What `vjp` of an operator gets as `ctx`."""
    cdef Node node

    @property
    def inputs(self):
        """The positional arguments of forward."""
        return self._values("inputs")

    @property
    def outputs(self):
        """What forward returned, as a tuple."""
        return self._values("outputs")

    @property
    def params(self):
        """The keyword arguments of forward."""
        return (<Call> self.node.params).params

    @property
    def needs_input_grad(self):
        """For each positional argument, whether its gradient is asked for."""
        cdef int i
        return tuple([self.node.slot[i] != NULL for i in range(self.node.n_in)])

    def _values(self, str which):
        cdef Call call = <Call> self.node.params
        cdef bint inputs = which == "inputs"
        if which not in _saves(self.node.op):
            raise RuntimeError(f"[{self.node.op.name}] ctx.{which} is not kept: `saves` of the operator leaves it out")
        check_alive(self.node)
        places = (<Kept> <object> self.node.slot[self.node.n_in]).places
        cdef list values = list(call.arguments) if inputs else [None] * call.n_outputs
        for at, place in enumerate(places):
            if inputs and place >= 0:
                values[<int> place] = _kept(self.node, at)
            elif not inputs and place < 0:
                values[<int> call.positions[-1 - <int> place]] = _kept(self.node, at)
        return tuple(values)


cdef object _saves(object op):
    saves = getattr(op, "saves", ("inputs", "outputs"))
    return (saves,) if isinstance(saves, str) else saves


cdef object _op_vjp(Node node, object g):
    cdef OpContext context = OpContext()
    context.node = node
    cdef object op = node.op
    return _checked(node, op.vjp(context, *_cotangents(node, g, True)), f"{node.op.name}.vjp")


cdef void _prepare(Op op, void *rule) noexcept:
    cdef int i
    op.vjp = rule
    for i in range(MAX_NEEDS):
        op.needs[i] = <uint32_t> 1 << KEPT_BIT


cdef object _call_op(Op op, tuple arguments, dict params):
    cdef Call call = Call()
    cdef bint before = grad_enabled(), recording = False
    cdef list versions = []
    cdef object python = op
    if not hasattr(op, "forward"):
        raise NotImplementedError(f"[{op.name}] has no forward: define `forward(self, *inputs, **params)` in its class")
    if op.vjp == NULL and hasattr(op, "vjp"):
        _prepare(op, <void *> _op_vjp)
    elif op.vjp == NULL:
        _prepare(op, NULL)
    for each in arguments:
        if isinstance(each, TensorBase):
            recording = recording or needs_grad(<TensorBase> each)
            versions.append((<TensorBase> each).a.storage.version)
        else:
            versions.append(0)
    for name, each in params.items():
        if before and isinstance(each, TensorBase) and needs_grad(<TensorBase> each):
            raise TypeError(f"[{op.name}] the keyword argument {name!r} requires grad; gradients flow to positional "
                            "arguments only")
    set_grad(False)
    try:
        result = python.forward(*arguments, **params)
    finally:
        set_grad(before)
    recording = recording and before
    call.params = params
    call.arguments = tuple([None if isinstance(each, TensorBase) else each for each in arguments])
    call.tensors = tuple([isinstance(each, TensorBase) for each in arguments])
    for k, each in enumerate(arguments):
        if recording and isinstance(each, TensorBase) and needs_grad(<TensorBase> each) \
                and (<TensorBase> each).a.storage.version != <uint32_t> versions[k]:
            raise RuntimeError(f"[{op.name}] forward changed its input {k} in place, which requires grad; clone() it "
                               "first")

    def saving(inputs, outputs):
        cdef Kept kept = _new_kept()
        saves = _saves(op)
        if "inputs" in saves:
            for i, value in enumerate(inputs):
                if isinstance(value, TensorBase):
                    kept.add(value, i)
        if "outputs" in saves:
            for k, position in enumerate(call.positions):
                kept.add(outputs[position], -1 - k)
        return kept

    return _finish(op, arguments, result, recording, call, False, (), (), saving)


cdef PyObject *_python_entry(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL:
    cdef Py_ssize_t given = <Py_ssize_t> (nargs & ~PY_VECTORCALL_ARGUMENTS_OFFSET), k
    cdef dict params = {}
    if names != NULL:
        for k in range(len(<tuple> names)):
            params[(<tuple> names)[k]] = <object> args[given + k]
    result = _call_op(<Op> self, tuple([<object> args[k] for k in range(given)]), params)
    Py_INCREF(<PyObject *> result)
    return <PyObject *> result


op_module.python_entry = _python_entry


# autograd.Function

@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class FunctionCtx:
    """What `forward` and `backward` of an `autograd.Function` get as `ctx`; attributes may be set on it freely."""
    cdef dict __dict__
    cdef public tuple needs_input_grad
    cdef tuple to_save, dirty, plain
    cdef bint materialise
    cdef object function
    cdef PyObject *node         # while backward runs; borrowed
    cdef int n_saved

    def __cinit__(self):
        self.to_save = self.dirty = self.plain = ()
        self.materialise = True

    def save_for_backward(self, *tensors):
        """Keep tensors (or None) for backward: `saved_tensors` gives them back, and in-place changes are noticed."""
        for k, each in enumerate(tensors):
            if each is not None and not isinstance(each, TensorBase):
                raise TypeError(f"save_for_backward can only save variables, but argument {k} is of type "
                                f"{type(each).__name__}")
        self.to_save = tensors

    def mark_dirty(self, *tensors):
        """Say which inputs forward changed in place."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors):
        """Say which outputs, or other tensors that `ctx` keeps, have no gradient: constants."""
        self.plain = tensors

    def set_materialize_grads(self, value):
        """Whether backward gets zeros, rather than None, for outputs that were not used; True by default."""
        self.materialise = bool(value)

    @property
    def saved_tensors(self):
        """The tensors given to `save_for_backward`."""
        if self.node == NULL:
            if self.n_saved == 0:
                return ()
            raise RuntimeError("ctx.saved_tensors can be read while backward runs only")
        return tuple([_kept(<Node> self.node, k) for k in range(self.n_saved)])


cdef bint _is_unrecorded(object value, tuple arguments, tuple plain) noexcept:
    return (isinstance(value, TensorBase) and categories[(<TensorBase> value).a.dtype] == FLOATING
            and not needs_grad(<TensorBase> value) and not _among(value, arguments) and not _among(value, plain))


cdef list _unrecorded_names(dict attributes, tuple arguments, tuple plain):
    """The attributes of a context that hold tensors computed in forward, alone or in a tuple or list."""
    cdef list names = []
    for name, value in attributes.items():
        for each in (<object> value if isinstance(value, (tuple, list)) else (value,)):
            if _is_unrecorded(each, arguments, plain):
                names.append(name)
                break
    return names


cdef dict _without_history(Node node, Call call, FunctionCtx context):
    """Put tensors whose gradient is an error in the place of those; what was there and what is, by name."""
    cdef dict kept = {}
    for name in call.unrecorded:
        value = (<object> context).__dict__.get(name)
        if isinstance(value, TensorBase):
            stand_in = unrecorded(node, <TensorBase> value, f"ctx.{name}")
        elif type(value) in (tuple, list):
            stand_in = type(value)([unrecorded(node, <TensorBase> each, f"ctx.{name}") if _is_unrecorded(each, (), ())
                                    else each for each in value])
        else:
            continue
        kept[name] = value, stand_in
        (<object> context).__dict__[name] = stand_in
    return kept


cdef object _function_vjp(Node node, object g):
    cdef Call call = <Call> node.params
    cdef FunctionCtx context = <FunctionCtx> call.context
    cdef PyObject *before = context.node
    check_alive(node)
    context.node = <PyObject *> node
    kept = _without_history(node, call, context) if call.unrecorded and grad_enabled() else None
    try:
        result = context.function._backward(context, *_cotangents(node, g, context.materialise))
    finally:
        context.node = before
        if kept is not None:
            for name, (value, stand_in) in (<dict> kept).items():
                if (<object> context).__dict__.get(name) is stand_in:
                    (<object> context).__dict__[name] = value
    return _checked(node, result, f"{node.op.name}Backward")


def function_operator(str name):
    """The operator that stands in the graph for a subclass of `autograd.Function`."""
    cdef Op op = Op(name)
    _prepare(op, <void *> _function_vjp)
    return op


def apply_function(Op op, function, tuple arguments, bint separate_context):
    """Call a Function; `separate_context` when it has `setup_context`."""
    cdef FunctionCtx context = FunctionCtx()
    cdef Call call = Call()
    cdef bint before = grad_enabled(), recording = False
    context.function = function
    context.needs_input_grad = tuple([isinstance(each, TensorBase) and needs_grad(<TensorBase> each)
                                      for each in arguments])
    for each in context.needs_input_grad:
        recording = recording or each
    set_grad(False)
    try:
        if separate_context:
            result = function.forward(*arguments)
            function.setup_context(context, arguments, result)
        else:
            result = function.forward(context, *arguments)
    finally:
        set_grad(before)
    call.context = context
    call.tensors = tuple([isinstance(each, TensorBase) for each in arguments])

    def saving(inputs, outputs):
        cdef Kept kept = _new_kept()
        tensors = [each for each in outputs if isinstance(each, TensorBase)]
        for value in context.to_save:
            place = NEITHER
            for i, each in enumerate(inputs):
                if each is value:
                    place = i
            for k, each in enumerate(tensors):
                if each is value and not _among(value, context.plain) and (
                        place < 0 or _among(value, context.dirty)):
                    place = -1 - k
            if place == NEITHER and value is not None and _among(value, context.plain):
                place = CONSTANT
            kept.add(value, NEITHER if value is None else place)
        context.n_saved = len(kept.values)
        return kept

    outputs = _finish(op, arguments, result, recording and before, call, True, context.dirty, context.plain, saving)
    call.unrecorded = _unrecorded_names((<object> context).__dict__, arguments, context.plain)
    context.to_save = context.dirty = context.plain = ()
    return outputs

no_constructor(OpContext)
