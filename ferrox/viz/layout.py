"""A layered drawing of a directed acyclic graph, after Sugiyama, Tagawa and Toda (1981).

Ranks by longest path, with sources drawn down to their consumers; long edges are cut by invisible vertices; the order
within a rank is improved by barycentre sweeps; coordinates are then the least squares to neighbours' that keep order
and distance (pool adjacent violators), sweep by sweep.
"""
import itertools

__all__ = ["layered"]

_GAP_X, _GAP_Y = 26.0, 46.0
_SWEEPS = 12


def _ranks(count, edges):
    """Longest-path ranks; a source stands right above its nearest consumer."""
    into, out = [[] for _ in range(count)], [[] for _ in range(count)]
    for source, target in edges:
        into[target].append(source)
        out[source].append(target)
    rank = [0] * count
    for v in range(count):          # ids are in topological order, except that a cut-off box is the first
        for u in into[v]:
            rank[v] = max(rank[v], rank[u] + 1)
    for v in range(count):
        if not into[v] and out[v]:
            rank[v] = min(rank[w] for w in out[v]) - 1
    low = min(rank, default=0)
    return [each - low for each in rank]


def _with_bends(count, edges, rank):
    """Cut edges that pass ranks into pieces; returns each edge's path of vertices and the ranks of all."""
    rank, paths = list(rank), []
    for source, target in edges:
        path = [source]
        for level in range(rank[source] + 1, rank[target]):
            path.append(len(rank))
            rank.append(level)
        path.append(target)
        paths.append(path)
    return rank, paths


def _place(wanted, widths):
    """Positions nearest to `wanted` in least squares, in order and at least a gap apart."""
    shift, offset = [], 0.0
    for k, width in enumerate(widths):
        if k:
            offset += (widths[k - 1] + width) / 2 + _GAP_X
        shift.append(offset)
    blocks = []         # (sum of targets, number)
    for target, moved in zip(wanted, shift, strict=False):
        blocks.append([target - moved, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] > blocks[-1][0] * blocks[-2][1]:
            total, number = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += number
    placed = []
    for total, number in blocks:
        placed.extend([total / number] * number)
    return [base + moved for base, moved in zip(placed, shift, strict=False)]


def layered(sizes, edges):
    """Place boxes.

    Parameters
    ----------
    sizes : list of (width, height)
        Of each vertex; ids in topological order.
    edges : list of (source, target)

    Returns
    -------
    centres : list of (x, y)
    paths : list of list of (x, y)
        For each edge the points it passes, from the source's lower border to the target's upper border.
    extent : (width, height)
    """
    if not sizes:
        return [], [], (0.0, 0.0)
    rank, paths = _with_bends(len(sizes), edges, _ranks(len(sizes), edges))
    widths = [size[0] for size in sizes] + [8.0] * (len(rank) - len(sizes))
    levels = [[] for _ in range(max(rank) + 1)]
    for v, level in enumerate(rank):
        levels[level].append(v)
    above, below = [[] for _ in rank], [[] for _ in rank]
    for path in paths:
        for u, v in itertools.pairwise(path):
            above[v].append(u)
            below[u].append(v)
    _order(levels, above, below)
    x = _coordinates(levels, above, below, widths)
    y, top = [0.0] * len(rank), 0.0
    heights = [max((sizes[v][1] for v in level if v < len(sizes)), default=0.0) for level in levels]
    for level, height in zip(levels, heights, strict=False):
        for v in level:
            y[v] = top + height / 2
        top += height + _GAP_Y
    left = min(x[v] - widths[v] / 2 for v in range(len(rank)))
    x = [each - left for each in x]
    width = max(x[v] + widths[v] / 2 for v in range(len(rank)))
    lines = []
    for path in paths:
        points = [(x[path[0]], y[path[0]] + sizes[path[0]][1] / 2)]
        points += [(x[v], y[v]) for v in path[1:-1]]
        points.append((x[path[-1]], y[path[-1]] - sizes[path[-1]][1] / 2))
        lines.append(points)
    return list(zip(x, y, strict=False))[:len(sizes)], lines, (width, top - _GAP_Y)


def _order(levels, above, below):
    """Sweep down and up, sorting each level by the mean place of its neighbours; keep the best order."""
    place = {}

    def renumber(level):
        for k, v in enumerate(level):
            place[v] = k

    def sort(level, neighbours):
        def key(v):
            found = neighbours[v]
            return sum(place[u] for u in found) / len(found) if found else place[v]

        level.sort(key=key)
        renumber(level)

    for level in levels:
        renumber(level)
    best, fewest = [list(level) for level in levels], _crossings(levels, below, place)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        if sweep % 2 == 0:
            for level in levels[1:]:
                sort(level, above)
        else:
            for level in reversed(levels[:-1]):
                sort(level, below)
        count = _crossings(levels, below, place)
        if count < fewest:
            best, fewest = [list(level) for level in levels], count
    for level, chosen in zip(levels, best, strict=False):
        level[:] = chosen


def _crossings(levels, below, place):
    """The number of crossings between neighbouring levels, by inversions counted in a Fenwick tree."""
    total = 0
    for level, following in itertools.pairwise(levels):
        ends = [place[w] for v in level for w in sorted(below[v], key=place.__getitem__)]
        tree = [0] * (len(following) + 1)
        for seen, end in enumerate(ends):
            before, k = 0, end + 1
            while k:
                before += tree[k]
                k &= k - 1
            total += seen - before
            k = end + 1
            while k < len(tree):
                tree[k] += 1
                k += k & -k
    return total


def _coordinates(levels, above, below, widths):
    x = [0.0] * len(widths)
    for level in levels:
        for v, placed in zip(level, _place([0.0] * len(level), [widths[v] for v in level]), strict=False):
            x[v] = placed
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for level in levels if down else reversed(levels):
            wanted = []
            for v in level:
                near = above[v] if down else below[v]
                if sweep >= _SWEEPS - 2:
                    near = above[v] + below[v]
                wanted.append(sum(x[u] for u in near) / len(near) if near else x[v])
            for v, placed in zip(level, _place(wanted, [widths[v] for v in level]), strict=False):
                x[v] = placed
    return x
