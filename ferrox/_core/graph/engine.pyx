"""Backward: reverse-mode differentiation over the recorded graph.

One run has three steps, none of them recursive.  *Discover*: a depth-first walk from the roots puts every node behind
its inputs' nodes into one array (a topological order) and marks the nodes that lead to something asked for.  *Seed*:
the roots get their cotangents.  *Sweep*: from the end of the array to its beginning, each node's rule turns its
cotangent into those of its inputs, which are fitted to shape and dtype and accumulated, in a node or in a leaf's
`.grad`.

Accumulation is in place where nobody else can see the tensor (`sole`, tensor/base.pyx).  A leaf's first gradient is
taken over without a copy on the same condition.

Note [Leaves].  A gradient is added to a leaf by one thread at a time; kernels of large ones give up the GIL, so another
waits until it has been added.
"""
import os

from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcmp

from ferrox._core.door.profile cimport BACKWARD, begin_range, end_entry, recording
from ferrox._core.graph.hooked cimport after_accumulation, leaf_hooks, node_hooks, node_prehooks, tensor_hooks
from ferrox._core.graph.node cimport Node, grad_enabled, history_of, release_saved, set_grad, shape_of_node, vjp_fn
from ferrox._core.graph.walk cimport Run, Step, close, discover, step_of
from ferrox._core.tensor.base cimport TensorBase, drop, needs_grad, on_one_device, shape_tuple, sole, unshared

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)
    PyObject *PyList_GET_ITEM(PyObject *values, Py_ssize_t k)

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned microseconds)

cdef extern from *:
    """
    static __thread int fx_running = 0;
    static __thread size_t fx_run = 0;
    """
    int fx_running
    size_t fx_run

cdef size_t _runs = 0

cdef object _check_gradients = None     # detect_anomaly: called with (node, input number, gradient)


def set_gradient_check(check):
    """Have every gradient looked at (detect_anomaly); returns what was set before."""
    global _check_gradients
    before, _check_gradients = _check_gradients, check
    return before


def running():
    """How many backwards are under way in this thread, one within the other."""
    return fx_running


cdef dict _callbacks = {}       # by run: what to call at its end


def current_run():
    """A number for the backward under way in this thread, never used again; 0 outside of one."""
    return <size_t> fx_run


def queue_callback(callback):
    """Call `callback()` at the end of the backward under way in this thread."""
    if not fx_running:
        raise RuntimeError("queue_callback is for hooks and gradient rules: no backward is under way")
    _callbacks.setdefault(<size_t> fx_run, []).append(callback)


cdef int _give(Run run, Node node, uint32_t output, object g) except -1:
    """Add a cotangent to output `output` of `node`."""
    cdef Step *at = step_of(run, <PyObject *> node)
    cdef list parts
    cdef PyObject *held = at.cotangent
    cdef object total
    if node.n_out > 1:
        if held == NULL:
            parts = [None] * node.n_out
            Py_INCREF(<PyObject *> parts)
            at.cotangent = <PyObject *> parts
        parts = <list> at.cotangent
        held = PyList_GET_ITEM(<PyObject *> parts, output)
        if held == <PyObject *> None:
            parts[output] = g
        elif _may_add_into(run, held):
            operators.add_into(<TensorBase> held, <TensorBase> g)
        else:
            parts[output] = operators.add(<TensorBase> held, <TensorBase> g)
    elif held == NULL:
        Py_INCREF(<PyObject *> g)
        at.cotangent = <PyObject *> g
    elif _may_add_into(run, held):
        operators.add_into(<TensorBase> held, <TensorBase> g)
    else:
        total = operators.add(<TensorBase> held, <TensorBase> g)
        Py_INCREF(<PyObject *> total)
        at.cotangent = <PyObject *> total
        drop(held)
    return 0


cdef inline bint _may_add_into(Run run, PyObject *held) noexcept:
    return not run.create and sole(held, 1) and not needs_grad(<TensorBase> held)


# Note [Leaves]: who adds to which leaf now.
cdef struct Hold:
    PyObject *leaf
    void *thread
    Hold *before

cdef Hold *_holds = NULL


cdef int _hold(Hold *mine, PyObject *leaf) except -1:
    """Wait until no other thread adds to `leaf`.  Who holds a leaf already, in a finalizer, does not wait."""
    global _holds
    cdef Hold *each = _holds
    mine.leaf = leaf
    mine.thread = <void *> &fx_running
    while each != NULL:
        if each.thread == mine.thread:
            break
        each = each.before
    if each == NULL:
        each = _holds
        while each != NULL:
            if each.leaf == leaf:
                with nogil:
                    usleep(20)
                each = _holds
            else:
                each = each.before
    mine.before = _holds
    _holds = mine
    return 0


cdef void _let_go(Hold *mine) noexcept:
    cdef Hold **at = &_holds
    while at[0] != NULL:
        if at[0] == mine:
            at[0] = mine.before
            return
        at = &at[0].before


def _forked():
    """In a child process, where the threads that held leaves do not exist."""
    global _holds
    _holds = NULL


os.register_at_fork(after_in_child=_forked)


cdef int _accumulate(Run run, TensorBase leaf, PyObject *g, Py_ssize_t held) except -1:
    """Add a gradient, which the caller holds `held` references to, to `leaf.grad`."""
    cdef Hold hold
    cdef TensorBase total, piece = <TensorBase> g, before
    cdef bint tape = run.create
    _hold(&hold, <PyObject *> leaf)
    try:
        before = <TensorBase> leaf.grad_
        if before is None:
            # `piece` is one more reference than the caller's.
            if sole(g, held + 1) and (tape or not needs_grad(piece)):
                leaf.grad_ = piece
            else:
                total = operators.copy(piece)
                leaf.grad_ = total
        elif tape or needs_grad(before):
            total = operators.add(before, piece)
            leaf.grad_ = total
        else:
            operators.add_into(before, piece)
    finally:
        _let_go(&hold)
    if tape and needs_grad(<TensorBase> leaf.grad_):
        run.grown.append(leaf)
    return 0


cdef inline bint _fits(TensorBase g, int ndim, const void *shape, int dtype) noexcept:
    return g.a.ndim == ndim and g.a.dtype == dtype and memcmp(g.a.dims, shape, 8 * <size_t> ndim) == 0


cdef object _fitted_to_node(object g, Node node, uint32_t output):
    cdef TensorBase tensor = <TensorBase> g
    if output == 0:
        if _fits(tensor, node.ndim, node.shape, node.dtype):
            return g
        return operators.fit(tensor, shape_of_node(node), node.dtype)
    shape, dtype = node.meta["outputs"][output]
    if shape_tuple(&tensor.a) == shape and tensor.a.dtype == <int> dtype:
        return g
    return operators.fit(tensor, shape, dtype)


cdef int _pass_on(Run run, Node node, uint32_t i, PyObject *piece, Py_ssize_t held) except -1:
    """Give input i of `node` its gradient, which the caller holds `held` references to."""
    cdef PyObject *target = node.slot[i]
    cdef Node following
    cdef TensorBase leaf
    cdef object fitted
    if target == NULL or piece == <PyObject *> None:
        return 0
    if not isinstance(<object> piece, TensorBase):
        raise TypeError(f"[{node.op.name}] the gradient of input {i} must be a tensor or None, "
                        f"got {type(<object> piece).__name__}")
    if _check_gradients is not None:
        _check_gradients(node, i, <object> piece)
    if type(<object> target) is Node:
        following = <Node> target
        if run.wanted is not None and not step_of(run, target).needed \
                and (<size_t> target, node.tail[i]) not in run.wanted:
            return 0
        if following.n_out == 1 and _fits(<TensorBase> piece, following.ndim, following.shape, following.dtype):
            return _give(run, following, 0, <object> piece)
        return _give(run, following, node.tail[i], _fitted_to_node(<object> piece, following, node.tail[i]))
    leaf = <TensorBase> target
    if run.wanted is not None:
        if (<size_t> target, 0) not in run.wanted:
            return 0
    elif not needs_grad(leaf):      # not any more
        return 0
    if not _fits(<TensorBase> piece, leaf.a.ndim, leaf.a.dims, leaf.a.dtype):
        fitted = operators.fit(<TensorBase> piece, shape_tuple(&leaf.a), leaf.a.dtype)
        piece = <PyObject *> fitted
        held = 1
    if run.wanted is None and leaf.meta is None:
        return _accumulate(run, leaf, piece, held)
    return _collect(run, leaf, <object> piece)


cdef int _collect(Run run, TensorBase leaf, object g) except -1:
    """Add a gradient to those of a leaf that are not accumulated before they are complete."""
    held = run.sums.get(<size_t> <PyObject *> leaf)
    run.sums[<size_t> <PyObject *> leaf] = (leaf, g if held is None else operators.add(<TensorBase> held[1],
                                                                                       <TensorBase> g))
    return 0


cdef object _before_rule(Run run, Node node, object g):
    """Hooks on a node's cotangent, and who asked for it."""
    cdef uint32_t k
    if node.meta is not None:
        g = tensor_hooks(node, g)
        for output, reference in tuple((<dict> node.meta).get("retained", ())):
            tensor = reference()
            piece = g if node.n_out == 1 else g[output]
            if tensor is not None and piece is not None:
                _accumulate(run, <TensorBase> tensor, <PyObject *> piece, 0)
    if run.captured is not None:
        for k in range(node.n_out):
            if (<size_t> <PyObject *> node, k) in run.wanted:
                run.captured[<size_t> <PyObject *> node, k] = g if node.n_out == 1 else g[k]
    if node.meta is not None:
        g = node_prehooks(node, g)
    return g


cdef int _sweep_node(Run run, Step *step) except -1:
    cdef Node node = <Node> step.node
    cdef object g = <object> step.cotangent, result
    cdef uint32_t i
    cdef Py_ssize_t given, held
    drop(step.cotangent)
    step.cotangent = NULL
    if node.meta is not None or run.captured is not None:
        g = _before_rule(run, node, g)
    if not step.needed:
        return 0
    if node.op.vjp == NULL:
        raise NotImplementedError(f"[{node.op.name}] has no gradient rule: its input {_first_edge(node)} requires grad")
    result = (<vjp_fn> node.op.vjp)(node, g)
    if not run.retain:
        release_saved(node)
    if node.meta is not None:
        result = node_hooks(node, result, g)
    g = None
    held = 1 if unshared(<PyObject *> result) else 0       # a hook may have kept the tuple
    if type(result) is tuple:
        given = PyTuple_GET_SIZE(result)
        if given < <Py_ssize_t> node.n_in:
            raise RuntimeError(f"[{node.op.name}] the gradient rule returned {given} gradients for {node.n_in} inputs")
        for i in range(node.n_in):
            _pass_on(run, node, i, <PyObject *> PyTuple_GET_ITEM(result, i), held)
    else:
        _pass_on(run, node, 0, <PyObject *> result, 1)
    return 0


cdef dict _backward_names = {}


cdef int _sweep_recorded(Run run, Step *step) except -1:
    """`_sweep_node` under a range of the profiler: "MulBackward" for `mul`."""
    cdef Node node = <Node> step.node
    name = _backward_names.get(node.op.name)
    if name is None:
        parts = node.op.name.split("_")
        name = "".join([part[:1].upper() + part[1:] for part in parts]) + "Backward"
        _backward_names[node.op.name] = name
    cdef long long entry = begin_range(name, BACKWARD, node.sequence)
    try:
        return _sweep_node(run, step)
    finally:
        end_entry(entry)


cdef int _first_edge(Node node):
    cdef uint32_t i
    for i in range(node.n_in):
        if node.slot[i] != NULL:
            return i
    return 0


cdef object _seed(TensorBase root, object cotangent):
    if cotangent is None:
        if root.a.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs; got an output of shape "
                               f"{shape_tuple(&root.a)}, pass its gradient")
        return operators.ones_like(root)
    if not isinstance(cotangent, TensorBase):
        raise TypeError(f"gradients can be either tensors or None, got {type(cotangent).__name__}")
    if not on_one_device(<TensorBase> cotangent, root):
        raise RuntimeError(f"Mismatch in device: a gradient on {cotangent.device} was given for an output on "
                           f"{root.device}")
    if shape_tuple(&(<TensorBase> cotangent).a) != shape_tuple(&root.a):
        raise RuntimeError(f"Mismatch in shape: a gradient of shape {shape_tuple(&(<TensorBase> cotangent).a)} was "
                           f"given for an output of shape {shape_tuple(&root.a)}")
    if (<TensorBase> cotangent).a.dtype != root.a.dtype:
        return operators.fit(<TensorBase> cotangent, shape_tuple(&root.a), root.a.dtype)
    return cotangent


cdef object run_backward(tuple roots, tuple cotangents, bint retain, bint create, tuple inputs, bint accumulate):
    """Differentiate `roots`.

    With `inputs` None, gradients are added to the `.grad` of every leaf.  Otherwise only those of `inputs` are
    computed: added to their `.grad` if `accumulate`, else returned as a list (None for an unused input).
    """
    global fx_running, fx_run, _runs
    cdef Run run = Run.__new__(Run)
    cdef size_t outer_run = fx_run
    cdef bint before = grad_enabled()
    cdef list targets = None
    run.retain = retain
    run.create = create
    run.accumulate = accumulate or inputs is None
    run.sums = {}
    if create:
        run.grown = []
    if inputs is not None:
        targets = _targets(run, inputs)
    fx_running += 1
    _runs += 1
    fx_run = _runs
    try:
        set_grad(create)
        _start(run, roots, cotangents)
        _sweep(run)
        _settle(run)
        while _callbacks and fx_run in _callbacks:
            for callback in _callbacks.pop(fx_run):
                callback()
        if inputs is None:
            return None
        return _found(run, targets)
    finally:
        if _callbacks:
            _callbacks.pop(fx_run, None)
        fx_running -= 1
        fx_run = outer_run
        set_grad(before)
        close(run)
        if run.grown:
            _track_grown(run.grown)


cdef int _track_grown(list grown) except -1:
    """Gradients with a history lead back to their leaves: the collector is to see that."""
    from ferrox._core.graph.tracking import adopt

    adopt(grown, 0)
    return 0


cdef list _targets(Run run, tuple inputs):
    """(tensor, its node or None, which output) for each input; fills run.wanted."""
    cdef TensorBase tensor
    cdef Node node
    cdef list targets = []
    run.wanted = {}
    run.captured = {}
    for tensor in inputs:
        if not needs_grad(tensor):
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        node = history_of(tensor)
        targets.append((tensor, node, tensor.output if node is not None else 0))
        if node is None:
            run.wanted[<size_t> <PyObject *> tensor, 0] = True
        else:
            run.wanted[<size_t> <PyObject *> node, tensor.output] = True
    return targets


cdef int _start(Run run, tuple roots, tuple cotangents) except -1:
    """Find the nodes behind `roots`, and give the roots their cotangents."""
    cdef TensorBase root
    cdef Node node
    cdef list starts = []
    for root in roots:
        if not needs_grad(root):
            raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
        node = history_of(root)
        starts.append((node, root.output))
        if node is not None:
            discover(run, node)
    for k, (root, cotangent) in enumerate(zip(roots, cotangents)):
        cotangent = _seed(root, cotangent)
        node, output = <tuple> starts[k]
        if node is not None:
            _give(run, node, output, cotangent)
        elif run.wanted is None or (<size_t> <PyObject *> root, 0) in run.wanted:
            _collect(run, root, cotangent)
    return 0


cdef int _sweep(Run run) except -1:
    cdef Py_ssize_t k
    for k in range(run.count - 1, -1, -1):
        if run.steps[k].cotangent != NULL:
            if recording:
                _sweep_recorded(run, &run.steps[k])
            else:
                _sweep_node(run, &run.steps[k])
    return 0


cdef list _found(Run run, list targets):
    """The gradients asked for, None where there is none, or added to `.grad`."""
    cdef list found = []
    for tensor, node, output in targets:
        if node is None:
            pair = run.sums.get(<size_t> <PyObject *> tensor)
            found.append(None if pair is None else pair[1])
            continue
        g = run.captured.get((<size_t> <PyObject *> node, output))
        found.append(g)
        if run.accumulate and g is not None:
            _accumulate(run, <TensorBase> tensor, <PyObject *> g, 0)
    return None if run.accumulate else found


cdef int _settle(Run run) except -1:
    """Run the hooks of leaves whose gradient had to be complete first, then accumulate it."""
    cdef TensorBase leaf
    for key, (tensor, g) in list(run.sums.items()):
        leaf = <TensorBase> tensor
        g = leaf_hooks(leaf, g)
        run.sums[key] = (leaf, g)
        if run.accumulate:
            _accumulate(run, leaf, <PyObject *> g, 0)
            after_accumulation(leaf)
    return 0


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None):
    """Add the gradients of the sum of `tensors` to the `.grad` of the leaves, as `torch.autograd.backward`.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        What to differentiate; scalars unless `grad_tensors` is given.
    grad_tensors : Tensor or sequence of Tensor or None
        The cotangent of each, of its shape.
    retain_graph : bool, optional
        Keep the saved values for another backward; as `create_graph` by default.
    create_graph : bool
        Record the gradients, so that they can be differentiated again.
    inputs : Tensor or sequence of Tensor, optional
        Accumulate in these only.

    Raises
    ------
    RuntimeError
        When a tensor does not require grad, a cotangent's shape does not match, saved values are gone or were changed.
    """
    cdef tuple roots = (tensors,) if isinstance(tensors, TensorBase) else tuple(tensors)
    if grad_tensors is None:
        grad_tensors = (None,) * len(roots)
    elif isinstance(grad_tensors, TensorBase):
        grad_tensors = (grad_tensors,)
    if len(grad_tensors) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(grad_tensors)} gradients")
    if inputs is not None:
        inputs = (inputs,) if isinstance(inputs, TensorBase) else tuple(inputs)
        if not inputs:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    run_backward(roots, tuple(grad_tensors), create_graph if retain_graph is None else retain_graph, create_graph,
                 inputs, True)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, allow_unused=None,
         is_grads_batched=False, materialize_grads=False):
    """The gradients of the sum of `outputs` with respect to `inputs`, as `torch.autograd.grad`.

    Returns
    -------
    tuple of Tensor
        One for each input; None for an unused one if `allow_unused`, zeros if `materialize_grads`.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.tensor(3.0, requires_grad=True)
    >>> fx.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    if is_grads_batched:
        raise TypeError("grad() takes no is_grads_batched in Ferrox; use ferrox.func.jacobian")
    cdef tuple roots = (outputs,) if isinstance(outputs, TensorBase) else tuple(outputs)
    inputs = (inputs,) if isinstance(inputs, TensorBase) else tuple(inputs)
    if allow_unused is None:
        allow_unused = materialize_grads
    if grad_outputs is None:
        grad_outputs = (None,) * len(roots)
    elif isinstance(grad_outputs, TensorBase):
        grad_outputs = (grad_outputs,)
    if len(grad_outputs) != len(roots):
        raise RuntimeError(f"got {len(roots)} outputs and {len(grad_outputs)} gradients")
    found = run_backward(roots, tuple(grad_outputs), create_graph if retain_graph is None else retain_graph,
                         create_graph, inputs, False)
    for i, g in enumerate(found):
        if g is None:
            if materialize_grads:
                found[i] = operators.fit(operators.ones_like(inputs[i]), shape_tuple(&(<TensorBase> inputs[i]).a),
                                         (<TensorBase> inputs[i]).a.dtype) * 0
            elif not allow_unused:
                raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set "
                                   "allow_unused=True if this is the desired behavior.")
    return tuple(found)
