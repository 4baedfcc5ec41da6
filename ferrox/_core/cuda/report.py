"""What the caching allocator says in words: out of memory, and the summary.  Made from snapshots and statistics."""

OWNERS = 6  # named in an out-of-memory message


def size(nbytes):
    """Bytes for a reader: 512 B, 1.5 KiB, 20 MiB."""
    amount = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1000 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.4g} {unit}" if amount < 10000 else f"{amount:.0f} {unit}"


def blocks_of(segments, state):
    return [block for segment in segments for block in segment["blocks"] if block["state"] == state]


def fragmentation(segments):
    """1 - largest / total of the free blocks' bytes; 0 when nothing is free."""
    free = [block["size"] for block in blocks_of(segments, "inactive")]
    return 1 - max(free) / sum(free) if free else 0.0


def owners(segments):
    """(tag, bytes, blocks, largest block) of the blocks in use, most bytes first."""
    found = {}
    for block in blocks_of(segments, "active_allocated"):
        total, count, largest = found.get(block["tag"], (0, 0, 0))
        found[block["tag"]] = total + block["size"], count + 1, max(largest, block["size"])
    rows = [(tag or "(no label)", *row) for tag, row in found.items()]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def out_of_memory(name, requested, segment_bytes, limit, device, capturing, segments):
    """The message of an OutOfMemoryError.

    Parameters
    ----------
    requested, segment_bytes : int
        Bytes asked for, and the bytes of the segment that was refused for them.
    limit : int or None
        What all segments together may have.
    device : tuple of int or None
        Free and total bytes of the device.
    capturing : bool
        Whether a capture was under way, so that nothing could be freed.
    segments : list of dict
        A snapshot.
    """
    free = [block["size"] for block in blocks_of(segments, "inactive")]
    held = sum(block["size"] for block in blocks_of(segments, "active_pending_free"))
    used = sum(segment["allocated_size"] for segment in segments)
    reserved = sum(segment["total_size"] for segment in segments)
    lines = [
        f"out of {name} memory: requested {size(requested)}, for which a segment of {size(segment_bytes)} was refused"
        + (f" (limit {size(limit)})" if limit is not None and reserved + segment_bytes > limit else ""),
    ]
    if device is not None:
        lines.append(f"device: {size(device[0])} free of {size(device[1])}")
    lines.append(
        f"this process: {size(reserved)} in {len(segments)} segments, of which {size(used)} in use"
        + (f", {size(held)} waiting for other streams" if held else "")
        + f", {size(sum(free))} free in {len(free)} blocks; largest free block {size(max(free, default=0))}, "
        f"fragmentation {100 * fragmentation(segments):.0f} %"
    )
    rows = owners(segments)
    if rows:
        told = [
            f"{tag} {size(total)} in {count} (largest {size(largest)})" for tag, total, count, largest in rows[:OWNERS]
        ]
        rest = f" and {len(rows) - OWNERS} more" if len(rows) > OWNERS else ""
        lines.append("biggest owners: " + ", ".join(told) + rest)
    if capturing:
        lines.append("nothing could be returned to the device while a graph was being captured")
    return "\n  ".join(lines)


ROWS = (
    ("Allocated memory", "allocated_bytes", True),
    ("Active memory", "active_bytes", True),
    ("Requested memory", "requested_bytes", True),
    ("Reserved memory", "reserved_bytes", True),
    ("Non-releasable memory", "inactive_split_bytes", True),
    ("Allocations", "allocation", False),
    ("Active allocs", "active", False),
    ("Reserved segments", "segment", False),
    ("Non-releasable allocs", "inactive_split", False),
)
PARTS = (("", "all"), ("  from large pool", "large_pool"), ("  from small pool", "small_pool"))
FIGURES = (("Now", "current"), ("Peak", "peak"), ("Total given", "allocated"), ("Total freed", "freed"))


def summary(name, stats, segments, abbreviated=False):
    """The statistics as a table; without the division into pools when `abbreviated`."""
    line = "|" + "-" * 24 + ("|" + "-" * 13) * 4 + "|"
    rows = [
        f"{name} memory, {stats['num_ooms']} out of memory, {stats['num_alloc_retries']} retries, "
        f"fragmentation {100 * fragmentation(segments):.0f} %",
        line,
        f"| {'':<22} " + "".join(f"| {title:>11} " for title, _ in FIGURES) + "|",
        line,
    ]
    for title, key, is_bytes in ROWS:
        for label, part in PARTS[: 1 if abbreviated else 3]:
            values = [stats[f"{key}.{part}.{figure}"] for _, figure in FIGURES]
            shown = [size(value) if is_bytes else str(value) for value in values]
            rows.append(f"| {label or title:<22} " + "".join(f"| {value:>11} " for value in shown) + "|")
        rows.append(line)
    return "\n".join(rows)
