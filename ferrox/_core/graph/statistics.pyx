"""What graphs hold, in numbers."""
from libc.stdint cimport int64_t, uint32_t

from ferrox._core.graph.node cimport Node, history_of, totals
from ferrox._core.tensor.base cimport TensorBase


def graph_stats(*tensors):
    """What the graph holds.

    Parameters
    ----------
    *tensors : Tensor, optional
        Count the graph behind these; without any, only the totals of the process.

    Returns
    -------
    dict
        alive (nodes in the process), made (ever), reads (saved values used by gradients, each computed once in
        forward); and for the graph behind `tensors`: nodes, edges, leaves, values (saved tensors) and bytes (memory
        they keep, counting shared storage once).

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(3, requires_grad=True)
    >>> fx.graph_stats((x * x).exp())["nodes"]
    2
    """
    cdef dict stats = {"alive": totals.alive, "made": totals.made, "reads": totals.reads}
    cdef Node node
    cdef int64_t values = 0, edges = 0
    cdef uint32_t i
    if not tensors:
        return stats
    seen, leaves, storages = set(), set(), {}
    stack = [made for made in [history_of(<TensorBase?> tensor) for tensor in tensors] if made is not None]
    while stack:
        node = <Node> stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for i in range(node.n_in + node.n_saved):
            if node.slot[i] == NULL:
                continue
            value = <object> node.slot[i]
            if i < node.n_in:
                edges += 1
                if type(value) is Node:
                    stack.append(value)
                else:
                    leaves.add(id(value))
                continue
            for each in value.tensors() if hasattr(value, "tensors") else (value,):
                if isinstance(each, TensorBase):
                    values += 1
                    storages[<size_t> (<TensorBase> each).a.storage] = (<TensorBase> each).a.storage.nbytes
    stats.update(nodes=len(seen), edges=edges, leaves=len(leaves), values=values, bytes=sum(storages.values()))
    return stats
