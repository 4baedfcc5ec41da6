"""Backward: reverse-mode differentiation over the recorded graph.

One run has three steps, none of them recursive.  *Discover*: a depth-first walk from the roots puts every node behind
its inputs' nodes into one array (a topological order) and marks the nodes that lead to something asked for.  *Seed*:
the roots get their cotangents.  *Sweep*: from the end of the array to its beginning, each node's rule turns its
cotangent into those of its inputs, which are fitted to shape and dtype and accumulated, in a node or in a leaf's
`.grad`.

Accumulation is in place where nobody else can see the tensor: the engine holds its only reference, and no other tensor
shares its storage.  A leaf's first gradient is taken over without a copy on the same condition.

A node carries the state of the run that walks it.  Graphs of different threads are separate; two runs that meet in one
node at the same time are refused.
"""
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from ferrox._core.graph.node cimport Node, grad_enabled, history_of, release_saved, set_grad, shape_of_node, vjp_fn
from ferrox._core.door.profile cimport BACKWARD, begin_range, end_entry, recording
from ferrox._core.tensor.base cimport TensorBase, drop, needs_grad, on_one_device, shape_tuple, strides_of

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)
    Py_ssize_t Py_REFCNT(PyObject *o)

cdef extern from *:
    """
    static __thread int fx_running = 0;
    static __thread size_t fx_run = 0;
    """
    int fx_running
    size_t fx_run

cdef size_t _runs = 0

cdef struct Frame:
    PyObject *node
    int edge

cdef struct Walk:
    PyObject **order
    Py_ssize_t count, room
    Frame *stack
    Py_ssize_t depth, stack_room

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


cdef int _push(Walk *walk, Node node) except -1:
    if walk.depth == walk.stack_room:
        walk.stack_room = 2 * walk.stack_room + 64
        grown = realloc(walk.stack, sizeof(Frame) * <size_t> walk.stack_room)
        if grown == NULL:
            raise MemoryError()
        walk.stack = <Frame *> grown
    walk.stack[walk.depth].node = <PyObject *> node
    walk.stack[walk.depth].edge = 0
    walk.depth += 1
    if node.task != NULL:
        raise RuntimeError(f"[{node.op.name}] another backward is walking this part of the graph right now")
    node.task = walk
    return 0


cdef int _discover(Walk *walk, Node root, dict wanted) except -1:
    """Append the nodes behind `root` to walk.order, inputs first."""
    cdef Frame *frame
    cdef Node node, following
    cdef PyObject *target
    if root.task == walk:
        return 0
    root.needed = wanted is None
    _push(walk, root)
    while walk.depth:
        frame = &walk.stack[walk.depth - 1]
        node = <Node> frame.node
        if frame.edge < node.n_in:
            target = node.slot[frame.edge]
            if target == NULL:
                frame.edge += 1
            elif type(<object> target) is Node:
                following = <Node> target
                if following.task != walk:
                    following.needed = wanted is None
                    _push(walk, following)      # invalidates frame; this edge is looked at again on the way back
                else:
                    if wanted is not None and (following.needed
                                               or (<size_t> target, node.tail[frame.edge]) in wanted):
                        node.needed = True
                    frame.edge += 1
            else:
                if wanted is not None and (<size_t> target, 0) in wanted:
                    node.needed = True
                frame.edge += 1
        else:
            walk.depth -= 1
            if walk.count == walk.room:
                walk.room = 2 * walk.room + 256
                grown = realloc(walk.order, sizeof(PyObject *) * <size_t> walk.room)
                if grown == NULL:
                    node.task = NULL
                    raise MemoryError()
                walk.order = <PyObject **> grown
            walk.order[walk.count] = <PyObject *> node
            walk.count += 1
    return 0


cdef inline bint _sole(PyObject *tensor) noexcept:
    """Whether one reference to the tensor, and one tensor on its storage, is all there is."""
    return (Py_REFCNT(tensor) == 1 and (<TensorBase> tensor).a.storage.references == 1
            and (<TensorBase> tensor).a.storage.owner == NULL)


cdef bint _dense(TensorBase tensor) noexcept:
    cdef int d
    for d in range(tensor.a.ndim):
        if strides_of(tensor)[d] == 0 and tensor.a.dims[d] > 1:
            return False
    return True


cdef int _give(Node node, int output, object g, bint create) except -1:
    """Add a cotangent to output `output` of `node`."""
    cdef TensorBase total
    cdef list parts
    cdef PyObject *held
    if node.n_out == 1:
        held = node.cotangent
        if held == NULL:
            Py_INCREF(<PyObject *> g)
            node.cotangent = <PyObject *> g
        elif not create and _sole(held) and _dense(<TensorBase> held) and not needs_grad(<TensorBase> held):
            operators.add_into(<TensorBase> held, <TensorBase> g)
        else:
            total = operators.add(<TensorBase> held, <TensorBase> g)
            Py_INCREF(<PyObject *> total)
            node.cotangent = <PyObject *> total
            drop(held)
        return 0
    if node.cotangent == NULL:
        parts = [None] * node.n_out
        Py_INCREF(<PyObject *> parts)
        node.cotangent = <PyObject *> parts
    parts = <list> node.cotangent
    if parts[output] is None:
        parts[output] = g
    else:
        parts[output] = operators.add(<TensorBase> parts[output], <TensorBase> g)
    return 0


cdef int _accumulate(TensorBase leaf, PyObject *g, bint create) except -1:
    """Add a gradient to `leaf.grad`."""
    cdef TensorBase piece = <TensorBase> g
    if leaf.grad_ is None:
        # `piece` is one more reference than the caller's.
        if (Py_REFCNT(g) == 2 and piece.a.storage.references == 1 and piece.a.storage.owner == NULL and _dense(piece)
                and (create or not needs_grad(piece))):
            leaf.grad_ = piece
        else:
            leaf.grad_ = operators.copy(piece)
    elif create or needs_grad(<TensorBase> leaf.grad_):
        leaf.grad_ = operators.add(<TensorBase> leaf.grad_, piece)
    else:
        operators.add_into(<TensorBase> leaf.grad_, piece)
    return 0


cdef inline bint _fits(TensorBase g, int ndim, const void *shape, int dtype) noexcept:
    return g.a.ndim == ndim and g.a.dtype == dtype and memcmp(g.a.dims, shape, 8 * <size_t> ndim) == 0


cdef object _fitted_to_node(object g, Node node, int output):
    cdef TensorBase tensor = <TensorBase> g
    if output == 0:
        if _fits(tensor, node.ndim, node.shape, node.dtype):
            return g
        return operators.fit(tensor, shape_of_node(node), node.dtype)
    shape, dtype = node.meta["outputs"][output]
    if shape_tuple(&tensor.a) == shape and tensor.a.dtype == <int> dtype:
        return g
    return operators.fit(tensor, shape, dtype)


cdef object _run_hooks(list hooks, object g):
    for hook, in list(hooks):
        replaced = hook(g)
        if replaced is not None:
            if not isinstance(replaced, TensorBase):
                raise TypeError(f"a tensor hook must return a tensor or None, got {type(replaced).__name__}")
            if not on_one_device(<TensorBase> replaced, <TensorBase> g):
                raise RuntimeError(f"a tensor hook must leave a gradient on its device: got one on {g.device}, "
                                   f"returned one on {replaced.device}")
            g = replaced
    return g


cdef object _cotangent_hooks(Node node, object g):
    """Tensor hooks, retained gradients and prehooks of a node, on its cotangent."""
    cdef dict by_output = <dict> (<dict> node.meta).get("output_hooks")
    if by_output is not None:
        for output, hooks in by_output.items():
            if node.n_out == 1:
                g = _run_hooks(hooks, g)
            elif g[output] is not None:
                g[output] = _run_hooks(hooks, g[output])
    for hook, in tuple((<dict> node.meta).get("prehooks", ())):
        replaced = hook((g,) if node.n_out == 1 else tuple(g))
        if replaced is not None:
            g = replaced[0] if node.n_out == 1 else list(replaced)
    for output, reference in (<dict> node.meta).get("retained", ()):
        tensor = reference()
        piece = g if node.n_out == 1 else g[output]
        if tensor is not None and piece is not None:
            (<TensorBase> tensor).grad_ = piece if (<TensorBase> tensor).grad_ is None else operators.add(
                <TensorBase> (<TensorBase> tensor).grad_, <TensorBase> piece)
    return g


cdef object _result_hooks(Node node, object result, object g):
    for hook, in tuple((<dict> node.meta).get("hooks", ())):
        replaced = hook(result if isinstance(result, tuple) else (result,), (g,) if node.n_out == 1 else tuple(g))
        if replaced is not None:
            result = tuple(replaced)
    return result


cdef int _pass_on(Node node, int i, PyObject *piece, bint create, dict wanted, dict sums) except -1:
    """Give input i of `node` its gradient."""
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
        if wanted is not None and not following.needed and (<size_t> target, node.tail[i]) not in wanted:
            return 0
        if following.n_out == 1 and _fits(<TensorBase> piece, following.ndim, following.shape, following.dtype):
            return _give(following, 0, <object> piece, create)
        return _give(following, node.tail[i], _fitted_to_node(<object> piece, following, node.tail[i]), create)
    leaf = <TensorBase> target
    if wanted is not None and (<size_t> target, 0) not in wanted:
        return 0
    if not _fits(<TensorBase> piece, leaf.a.ndim, leaf.a.dims, leaf.a.dtype):
        fitted = operators.fit(<TensorBase> piece, shape_tuple(&leaf.a), leaf.a.dtype)
        piece = <PyObject *> fitted
    if wanted is None and leaf.meta is None:
        return _accumulate(leaf, piece, create)
    held = sums.get(<size_t> target)
    sums[<size_t> target] = (leaf, <object> piece if held is None
                             else operators.add(<TensorBase> held[1], <TensorBase> piece))
    return 0


cdef int _sweep_node(Node node, bint retain, bint create, dict wanted, dict captured, dict sums) except -1:
    cdef object g, result
    cdef int i
    cdef Py_ssize_t given
    g = <object> node.cotangent
    drop(node.cotangent)
    node.cotangent = NULL
    if node.meta is not None:
        g = _cotangent_hooks(node, g)
    if captured is not None:
        for i in range(node.n_out):
            if (<size_t> <PyObject *> node, i) in wanted:
                captured[<size_t> <PyObject *> node, i] = g if node.n_out == 1 else g[i]
    if not node.needed:
        return 0
    if node.op.vjp == NULL:
        raise NotImplementedError(f"[{node.op.name}] has no gradient rule: its input {_first_edge(node)} requires grad")
    result = (<vjp_fn> node.op.vjp)(node, g)
    if not retain:
        release_saved(node)
    if node.meta is not None:
        result = _result_hooks(node, result, g)
    g = None
    if type(result) is tuple:
        given = PyTuple_GET_SIZE(result)
        if given < node.n_in:
            raise RuntimeError(f"[{node.op.name}] the gradient rule returned {given} gradients for {node.n_in} inputs")
        for i in range(node.n_in):
            _pass_on(node, i, <PyObject *> PyTuple_GET_ITEM(result, i), create, wanted, sums)
    else:
        _pass_on(node, 0, <PyObject *> result, create, wanted, sums)
    return 0


cdef dict _backward_names = {}


cdef int _sweep_recorded(Node node, bint retain, bint create, dict wanted, dict captured, dict sums) except -1:
    """`_sweep_node` under a range of the profiler: "MulBackward" for `mul`."""
    name = _backward_names.get(node.op.name)
    if name is None:
        parts = node.op.name.split("_")
        name = "".join([part[:1].upper() + part[1:] for part in parts]) + "Backward"
        _backward_names[node.op.name] = name
    cdef long long entry = begin_range(name, BACKWARD, node.sequence)
    try:
        return _sweep_node(node, retain, create, wanted, captured, sums)
    finally:
        end_entry(entry)


cdef int _first_edge(Node node):
    cdef int i
    for i in range(node.n_in):
        if node.slot[i] != NULL:
            return i
    return 0


cdef object _seed(TensorBase root, object cotangent, bint create):
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
    cdef Walk walk
    cdef size_t outer_run = fx_run
    cdef Node node
    cdef TensorBase root, tensor
    cdef Py_ssize_t k
    cdef bint before = grad_enabled()
    cdef dict wanted = None, captured = None, sums = {}
    cdef list keys = []
    walk.order = NULL
    walk.stack = NULL
    walk.count = walk.room = walk.depth = walk.stack_room = 0
    if inputs is not None:
        wanted = {}
        captured = {}
        for tensor in inputs:
            if not needs_grad(tensor):
                raise RuntimeError("One of the differentiated Tensors does not require grad")
            node = history_of(tensor)
            if node is None:
                key = (<size_t> <PyObject *> tensor, 0)
            else:
                key = (<size_t> <PyObject *> node, tensor.output)
            keys.append(key)
            wanted[key] = True
    fx_running += 1
    _runs += 1
    fx_run = _runs
    try:
        set_grad(create)
        for root in roots:
            if not needs_grad(root):
                raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
            node = history_of(root)
            if node is not None:
                _discover(&walk, node, wanted)
        for root, cotangent in zip(roots, cotangents):
            cotangent = _seed(root, cotangent, create)
            node = history_of(root)
            if node is not None:
                _give(node, root.output, cotangent, create)
            elif wanted is None or (<size_t> <PyObject *> root, 0) in wanted:
                held = sums.get(<size_t> <PyObject *> root)
                sums[<size_t> <PyObject *> root] = (root, cotangent if held is None else
                                                    operators.add(<TensorBase> held[1], <TensorBase> cotangent))
        cotangent = None
        for k in range(walk.count - 1, -1, -1):
            node = <Node> walk.order[k]
            if node.cotangent != NULL:
                if recording:
                    _sweep_recorded(node, retain, create, wanted, captured, sums)
                else:
                    _sweep_node(node, retain, create, wanted, captured, sums)
            node.task = NULL
        _settle(sums, create, accumulate or wanted is None)
        while _callbacks and fx_run in _callbacks:
            for callback in _callbacks.pop(fx_run):
                callback()
        if wanted is None:
            return None
        if accumulate:
            for tensor, key in zip(inputs, keys):
                if tensor.grad_fn != NULL and captured.get(key) is not None:
                    _accumulate(tensor, <PyObject *> captured[key], create)
            return None
        found = []
        for tensor, key in zip(inputs, keys):
            if tensor.grad_fn != NULL:
                found.append(captured.get(key))
            else:
                pair = sums.get(key[0])
                found.append(None if pair is None else pair[1])
        return found
    finally:
        if _callbacks:
            _callbacks.pop(fx_run, None)
        fx_running -= 1
        fx_run = outer_run
        set_grad(before)
        for k in range(walk.count):
            node = <Node> walk.order[k]
            if node.task == &walk:
                node.task = NULL
            if node.cotangent != NULL:
                drop(node.cotangent)
                node.cotangent = NULL
        while walk.depth:
            walk.depth -= 1
            if (<Node> walk.stack[walk.depth].node).task == &walk:
                (<Node> walk.stack[walk.depth].node).task = NULL
        free(walk.order)
        free(walk.stack)


cdef int _settle(dict sums, bint create, bint accumulate) except -1:
    """Run the hooks of leaves whose gradient had to be complete first, then accumulate it."""
    cdef TensorBase leaf
    for key, (tensor, g) in list(sums.items()):
        leaf = <TensorBase> tensor
        if leaf.meta is not None and "hooks" in leaf.meta:
            g = _run_hooks(leaf.meta["hooks"], g)
            sums[key] = (leaf, g)
        if accumulate:
            _accumulate(leaf, <PyObject *> g, create)
            if leaf.meta is not None:
                for hook, in tuple(leaf.meta.get("post_hooks", ())):
                    hook(leaf)
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
