"""What kernels declare of themselves, where they are provided; the door holds callers to it.

A declaration is one line of text with four parts:

    "rows float | y T, mean A, rstd A | x T, weight T?, bias T? | inner i, eps f"

*What it is*: the kind of its cost (`KIND_NAMES`, which placement reads), then any of: the dtypes of its arithmetic
(`float`, `integer`, `number`; every one by default); `in_place`, when it reads an element before it writes there, so
that an output may be one of the inputs, exactly; `buffered`, when inputs that share memory with an output are to be
copied first.

*Outputs*, then *inputs*: a name and a dtype each.  `T` is that of the arithmetic, `A` that of its sums (float32 for
halves), `any` whatever comes, since the kernel casts, `real` any floating-point one; others are named.  `?` after it:
may be absent, and at the end be left out.  `!`: an output that is updated, starting from what it holds, and `<`: one
that stands among the outputs but is only read.  A group in braces stands for as many as there are:
`{param T!, grad T<, buffer T!?}`.

*Parameters*: a name and `i` for an exact integer, `f` for a real number, `n` for one or the other as the arithmetic
is; `...` for as many as come.

A rule is kept as a number each, so that checking one operand is one comparison.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc

from ferrox._core.abi cimport FX_BOOLEAN, FX_COMPLEX, FX_DTYPES, FX_FLOATING, FX_INTEGRAL, fx_accumulation, fx_array, \
    fx_call, fx_category
from ferrox._core.dtype cimport as_dtype, dtype_name

# Kernels of one kind cost about the same per unit.  The unit is an element read or written; of products and attention,
# a multiplication with its addition.
KIND_NAMES = ("elementwise", "transcendental", "random", "reduction", "rows", "scan", "order", "product", "attention")

cdef dict _RULES = {"T": OF_CALL, "A": ACCUMULATED, "any": FREE, "real": REAL}
cdef dict _declarations = {}        # by kernel number: name, text, names of operands and parameters


cdef int _operands(str text, operand_list *made, int default, list names) except -1:
    """Read a list of operands; `default` is the role of those that say nothing of it."""
    cdef operand_rule *rule
    made.group_at = made.group = 0
    if text.strip() in ("", "-"):
        return 0
    for part in text.split(","):
        word = part.strip()
        if word.startswith("{"):
            made.group_at = made.n
            word = word[1:]
        closes = word.endswith("}")
        name, dtype = word.rstrip("}").split()
        if made.n == MAX_OPERANDS:
            raise RuntimeError(f"more than {MAX_OPERANDS} operands in {text!r}")
        rule = &made.rules[made.n]
        kind = dtype.rstrip("?!<")
        rule.dtype = _RULES[kind] if kind in _RULES else as_dtype(kind)
        rule.optional = "?" in dtype
        rule.role = UPDATED if "!" in dtype else READ if "<" in dtype else default
        names.append(name)
        made.n += 1
        if closes:
            made.group = made.n - made.group_at
    return 0


cdef signature *declared(int kernel, str name, str text) except NULL:
    """The signature that a declaration describes; it lives for ever."""
    cdef signature *made = <signature *> calloc(1, sizeof(signature))
    cdef int i
    if made == NULL:
        raise MemoryError()
    try:
        what, outs, ins, params = text.split("|")
        kind, *flags = what.split()
        made.kind = KIND_NAMES.index(kind)
        categories = (FX_BOOLEAN, FX_COMPLEX)
        for flag in flags:
            if flag == "in_place":
                made.in_place = True
            elif flag == "buffered":
                made.buffered = True
            else:
                categories = {"float": (FX_FLOATING, FX_FLOATING), "integer": (FX_BOOLEAN, FX_INTEGRAL),
                              "number": (FX_INTEGRAL, FX_COMPLEX)}[flag]
        for i in range(FX_DTYPES):
            if categories[0] <= fx_category(i) <= categories[1]:
                made.dtypes |= <uint32_t> 1 << i
        names, parameters = [], []
        _operands(outs, &made.outs, WRITTEN, names)
        _operands(ins, &made.ins, READ, names)
        if params.strip() == "...":
            made.n_params = -1
        elif params.strip() not in ("", "-"):
            for each in params.split(","):
                parameter, letter = each.split()
                made.params[made.n_params] = ord({"i": "i", "f": "f", "n": "n"}[letter])
                made.n_params += 1
                parameters.append(parameter)
    except (KeyError, ValueError, TypeError) as wrong:
        raise RuntimeError(f"the declaration of the kernel {name!r} cannot be read: {text!r}") from wrong
    made.free = made.dtypes == (<uint32_t> 1 << FX_DTYPES) - 1
    for i in range(made.outs.n):
        made.free = made.free and made.outs.rules[i].dtype == FREE and not made.outs.group
        made.reads_outputs = made.reads_outputs or made.outs.rules[i].role != WRITTEN
    for i in range(made.ins.n):
        made.free = made.free and made.ins.rules[i].dtype == FREE and not made.ins.rules[i].optional
    kept = (tuple(names), tuple(parameters))
    _declarations[kernel] = (name, text, kept)
    made.names = <void *> kept
    return made


cdef int rule_at(const operand_list *operands, int position, int n) noexcept nogil:
    """Which rule the operand at `position` of `n` has; -1 when there is none."""
    cdef int after = operands.n - operands.group_at - operands.group
    if operands.group == 0 or position < operands.group_at:
        return position if position < operands.n else -1
    if position >= n - after:
        return operands.n - (n - position)
    return operands.group_at + (position - operands.group_at) % operands.group


cdef bint _counted(const operand_list *operands, int n) noexcept nogil:
    cdef int repeated = n - (operands.n - operands.group)
    cdef int i
    if operands.group == 0:
        for i in range(n, operands.n):
            if not operands.rules[i].optional:
                return False
        return n <= operands.n
    return repeated >= 0 and repeated % operands.group == 0


cdef str operand_name(const signature *s, fx_call *call, int position):
    """The name of an operand, for messages; a repeated one has its number too."""
    cdef bint among_outs = position < call.n_out
    cdef const operand_list *operands = &s.outs if among_outs else &s.ins
    cdef int at = position if among_outs else position - call.n_out
    cdef int rule = rule_at(operands, at, call.n_out if among_outs else call.n_in)
    name = (<tuple> s.names)[0][rule if among_outs else s.outs.n + rule]
    if operands.group and operands.group_at <= rule < operands.group_at + operands.group:
        return f"{name} {(at - operands.group_at) // operands.group}"
    return name


cdef int role_of(const signature *s, fx_call *call, int position) noexcept nogil:
    """What is done with the output at `position`."""
    cdef int rule
    if s == NULL or not s.reads_outputs:
        return WRITTEN
    rule = rule_at(&s.outs, position, call.n_out)
    return s.outs.rules[rule].role if rule >= 0 else WRITTEN


cdef inline int _wanted(const operand_rule *rule, int dtype, int given) noexcept nogil:
    """The dtype that a rule asks for: what is given, where that will do."""
    if rule.dtype < OF_CALL:
        return rule.dtype
    if rule.dtype == OF_CALL:
        return dtype
    if rule.dtype == ACCUMULATED:
        return fx_accumulation(dtype)
    if rule.dtype == REAL and fx_category(given) != FX_FLOATING:
        return -1
    return given


cdef bint _operands_fit(const operand_list *operands, fx_array **arrays, int n, int dtype) noexcept nogil:
    cdef const operand_rule *rule
    cdef int i
    if operands.group or n != operands.n:
        if not _counted(operands, n):
            return False
    for i in range(n):
        rule = &operands.rules[rule_at(operands, i, n) if operands.group else i]
        if arrays[i] == NULL:
            if not rule.optional:
                return False
        elif arrays[i].dtype != _wanted(rule, dtype, arrays[i].dtype):
            return False
    return True


cdef bint fits(const signature *s, const fx_call *call) noexcept nogil:
    """Whether a call is as the kernel's declaration wants it."""
    return (s.dtypes >> call.dtype & 1 and (s.n_params < 0 or s.n_params == call.n_params)
            and _operands_fit(&s.outs, call.arrays, call.n_out, call.dtype)
            and _operands_fit(&s.ins, call.arrays + call.n_out, call.n_in, call.dtype))


cdef int refuse_call(str name, const signature *s, fx_call *call) except -1:
    """Say why a call is not as the kernel's declaration wants it."""
    cdef const operand_rule *rule
    cdef const fx_array *x
    cdef int i, wanted
    if not s.dtypes >> call.dtype & 1:
        raise NotImplementedError(f"[{name}] not implemented for {dtype_name(call.dtype)}")
    if not _counted(&s.outs, call.n_out) or not _counted(&s.ins, call.n_in) \
            or (s.n_params >= 0 and s.n_params != call.n_params):
        raise TypeError(f"[{name}] {call.n_out} outputs, {call.n_in} inputs and {call.n_params} parameters are not "
                        "what its kernel takes")
    for i in range(call.n_out + call.n_in):
        x = call.arrays[i]
        if i < call.n_out:
            rule = &s.outs.rules[rule_at(&s.outs, i, call.n_out)]
        else:
            rule = &s.ins.rules[rule_at(&s.ins, i - call.n_out, call.n_in)]
        operand = operand_name(s, call, i)
        if x == NULL:
            if not rule.optional:
                raise TypeError(f"[{name}] {operand} is missing")
            continue
        wanted = _wanted(rule, call.dtype, x.dtype)
        if x.dtype != wanted:
            kind = "a floating-point dtype" if wanted < 0 else f"dtype {dtype_name(wanted)}"
            raise RuntimeError(f"[{name}] expected {operand} to have {kind}, got {dtype_name(x.dtype)}")
    return 0


def declarations():
    """What every kernel declares, by its name: for the tests."""
    return {name: text for name, text, _ in _declarations.values()}
