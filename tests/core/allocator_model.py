"""A plain model of the caching allocator, written from the policy at the head of allocator.pyx, and traces for both.

The model keeps lists and searches them; statistics are taken by looking at everything before and after each step.

    python tests/core/allocator_model.py > tests/core/traces/training.txt

records a sequence like that of a training run, with what the model answered.
"""

import random
import sys
from itertools import pairwise

KIB, MIB = 1 << 10, 1 << 20
FIRST_ADDRESS = 1 << 40  # of the mock source
STATISTICS = ("allocation", "segment", "active", "inactive_split")


class Refused(Exception):
    def __init__(self, status):
        self.status = status


class Block:
    def __init__(self, address, size, segment):
        self.address, self.size, self.segment = address, size, segment
        self.state, self.requested, self.tag = "inactive", 0, None
        self.users = []  # streams noted by record_stream
        self.owed, self.events = [], 0  # after it is freed: events to be recorded, and recorded ones not yet done


class Segment:
    def __init__(self, address, size, kind, stream, pool):
        self.address, self.size, self.kind, self.stream, self.pool = address, size, kind, stream, pool
        self.blocks = [Block(address, size, self)]


class Model:
    """The source (a capacity, fresh addresses, events finished by hand) and the allocator in one."""

    def __init__(self, capacity):
        self.capacity, self.limit = capacity, None
        self.segments, self.free, self.next_address = [], [], FIRST_ADDRESS  # free: the newest last
        self.known, self.queues = [], {}  # streams in the order of their first record_stream; their events
        self.held = []  # blocks freed and waiting, in the order of freeing
        self.captures, self.users = [], {}
        self.calls, self.fail_at, self.fail_status, self.refuse = 0, None, 5, 0
        self.stats = dict.fromkeys(
            ["num_alloc_retries", "num_ooms", "num_sync_all_streams", "num_device_alloc", "num_device_free"], 0
        )
        self.now = self.look()
        for key in self.now:
            for figure in ("current", "peak", "allocated", "freed"):
                self.stats[f"{key}.{figure}"] = 0

    # Statistics: everything is looked at before and after a step.

    def look(self):
        now = {}
        for part in ("small", "large", "all"):
            segments = [s for s in self.segments if part in (s.kind, "all")]
            blocks = [b for s in segments for b in s.blocks]
            used = [b for b in blocks if b.state == "active_allocated"]
            active = [b for b in blocks if b.state != "inactive"]
            inactive = [b for s in segments if len(s.blocks) > 1 for b in s.blocks if b.state == "inactive"]
            name = part if part == "all" else f"{part}_pool"
            for key, found in (("allocation", used), ("active", active), ("inactive_split", inactive)):
                now[f"{key}.{name}"] = len(found)
                key = "allocated" if key == "allocation" else key
                now[f"{key}_bytes.{name}"] = sum(b.size for b in found)
            now[f"requested_bytes.{name}"] = sum(b.requested for b in used)
            now[f"segment.{name}"] = len(segments)
            now[f"reserved_bytes.{name}"] = sum(s.size for s in segments)
        return now

    def step_done(self):
        now = self.look()
        for key, value in now.items():
            change = value - self.now[key]
            self.stats[f"{key}.current"] = value
            self.stats[f"{key}.peak"] = max(self.stats[f"{key}.peak"], value)
            self.stats[f"{key}.{'allocated' if change > 0 else 'freed'}"] += abs(change)
        self.now = now

    # Blocks.

    def serving(self, stream):
        for pool, of in reversed(self.captures):
            if of is None or of == stream:
                return pool
        return 0

    def fit(self, size, kind, stream, pool):
        wanted = (kind, stream, pool)
        fitting = [
            b for b in reversed(self.free)
            if b.size >= size and (b.segment.kind, b.segment.stream, b.segment.pool) == wanted
        ]
        return min(fitting, key=lambda b: b.size, default=None)

    def from_source(self, size, kind, stream, pool):
        reserved = sum(s.size for s in self.segments)
        if self.limit is not None and reserved + size > self.limit:
            raise Refused(5)
        self.calls += 1
        if self.calls == self.fail_at:
            raise Refused(self.fail_status)
        if reserved + size > self.capacity:
            raise Refused(5)
        segment = Segment(self.next_address, size, kind, stream, pool)
        self.next_address += -(-size // (2 * MIB)) * 2 * MIB
        self.segments.append(segment)
        self.free.append(segment.blocks[0])
        self.stats["num_device_alloc"] += 1
        self.step_done()
        return segment.blocks[0]

    def allocate(self, requested, stream=0, tag=None):
        if self.held:
            self.strike_off(wait=False)
        size = max(512, -(-requested // 512) * 512)
        kind = "small" if size <= MIB else "large"
        where = (kind, stream, self.serving(stream))
        segment = 2 * MIB if kind == "small" else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
        block = self.fit(size, *where)
        try:
            block = block or self.from_source(segment, *where)
        except Refused as refusal:
            block = self.after_refusal(refusal, size, segment, where)
        self.free.remove(block)
        rest = block.size - size
        if rest >= 512 if kind == "small" else rest > MIB:
            blocks = block.segment.blocks
            other = Block(block.address + size, rest, block.segment)
            blocks.insert(blocks.index(block) + 1, other)
            block.size = size
            self.free.append(other)
        block.state, block.requested, block.tag = "active_allocated", requested, tag
        self.step_done()
        return block

    def after_refusal(self, refusal, size, segment, where):
        try:
            if refusal.status != 5 or self.captures:
                raise refusal
            if self.held:
                self.stats["num_sync_all_streams"] += 1
                self.strike_off(wait=True)
                block = self.fit(size, *where)
                if block:
                    return block
            self.give_back()
            self.stats["num_alloc_retries"] += 1
            return self.from_source(segment, *where)
        except Refused as last:
            self.stats["num_ooms"] += last.status == 5
            raise

    def release(self, block):
        block.state = "active_pending_free"
        self.step_done()
        if not block.users:
            self.make_free(block)
            return
        block.owed = list(block.users)
        self.held.append(block)
        if not self.captures:
            self.record_owed()

    def make_free(self, block):
        blocks = block.segment.blocks
        block.state, block.tag, block.users, block.requested = "inactive", None, [], 0
        self.free.append(block)
        i = blocks.index(block)
        for low, high in ((i, i + 1), (i - 1, i)):
            if low >= 0 and high < len(blocks) and blocks[low].state == blocks[high].state == "inactive":
                for gone in (blocks[low], blocks[high]):
                    self.free.remove(gone)
                blocks[low].size += blocks[high].size
                del blocks[high]
                self.free.append(blocks[low])
        self.step_done()

    def record_stream(self, block, stream):
        if stream != block.segment.stream and stream not in block.users:
            block.users.append(stream)
            if stream not in self.known:
                self.known.append(stream)
                self.queues[stream] = []

    def record_owed(self):
        for block in self.held:
            while block.owed:
                if self.refuse:
                    self.refuse -= 1
                    break
                self.queues[block.owed.pop(0)].append([block, False])
                block.events += 1

    def strike_off(self, wait):
        if self.captures:
            return
        self.record_owed()
        for stream in self.known:
            queue = self.queues[stream]
            while queue and (queue[0][1] or wait):
                block = queue.pop(0)[0]
                block.events -= 1
                if not block.events and not block.owed:
                    self.held.remove(block)
                    self.make_free(block)

    def finish(self, stream, count=None):
        todo = [event for event in self.queues.get(stream, []) if not event[1]]
        for event in todo[:count]:
            event[1] = True

    def give_back(self):
        returned = 0
        for segment in list(self.segments):
            whole = len(segment.blocks) == 1 and segment.blocks[0].state == "inactive"
            if whole and (segment.pool == 0 or not self.users[segment.pool]):
                self.segments.remove(segment)
                self.free.remove(segment.blocks[0])
                self.stats["num_device_free"] += 1
                returned += segment.size
                self.step_done()
        return returned

    def empty_cache(self):
        if self.captures:
            return 0
        if self.held:
            self.stats["num_sync_all_streams"] += 1
            self.strike_off(wait=True)
        return self.give_back()

    def begin(self, pool, stream=None):
        self.users[pool] = self.users.get(pool, 0) + 1
        self.captures.append((pool, stream))

    def end(self, pool):
        newest = max(i for i, capture in enumerate(self.captures) if capture[0] == pool)
        del self.captures[newest]

    def drop(self, pool):
        self.users[pool] -= 1

    def reset(self, what):
        for key in list(self.stats):
            if what == "peaks" and key.endswith(".peak"):
                self.stats[key] = self.stats[key.replace(".peak", ".current")]
            if what == "sums" and key.rpartition(".")[2] not in ("current", "peak"):
                self.stats[key] = 0

    def snapshot(self):
        return [
            (s.address, s.size, s.kind, s.stream, s.pool,
             [(b.address, b.size, b.requested, b.state, b.tag) for b in s.blocks])
            for s in self.segments
        ]


def check_sound(segments):
    """What holds of any snapshot: blocks tile their segments, free neighbours are joined, segments do not overlap."""
    for segment in segments:
        blocks = segment[5]
        assert blocks[0][0] == segment[0] and blocks[-1][0] + blocks[-1][1] == segment[0] + segment[1]
        for (address, size, _, state, _), following in pairwise(blocks):
            assert address + size == following[0]
            assert not state == following[3] == "inactive"
        assert all(b[1] % 512 == 0 and b[1] >= 512 for b in blocks)
        assert all(b[2] <= b[1] for b in blocks)
    for segment, following in pairwise(sorted(segments)):
        assert segment[0] + segment[1] <= following[0]


# Traces.


def number(text):
    scale = {"K": KIB, "M": MIB, "G": KIB * MIB}.get(text[-1])
    return int(text[:-1]) * scale if scale else int(text)


def parse(text):
    """(line number, operation, arguments, options, expected answer) of each line of a trace; see traces/README.txt."""
    for at, line in enumerate(text.splitlines(), 1):
        line, _, expected = line.partition("#")[0].partition("->")
        words = line.split()
        if words:
            options = dict(word.split("=") for word in words[1:] if "=" in word)
            yield at, words[0], [word for word in words[1:] if "=" not in word], options, expected.strip()


class Names:
    """Segments by number, in the order in which they were taken: an address becomes s2+512."""

    def __init__(self):
        self.bases = []

    def place(self, address, segments):
        self.bases += sorted({s[0] for s in segments} - set(self.bases))
        base = next(s[0] for s in segments if s[0] <= address < s[0] + s[1])
        return f"s{self.bases.index(base)}+{address - base}"


def training_trace(seed=7, steps=5):
    """Steps of a small network: weights and optimiser state stay; activations, gradients and workspaces come and go."""
    chance = random.Random(seed)
    widths = [784, 512, 512, 256, 10]
    model, names, live, count = Model(1 << 30), Names(), {}, 0
    lines = [
        "# Recorded by allocator_model.py from a sequence like that of training a network with batches that vary.",
        "source 1G",
    ]

    def allocate(size, stream=0, tag=None):
        nonlocal count
        name, count = f"b{count}", count + 1
        live[name] = model.allocate(size, stream, tag)
        options = (f" stream={stream}" if stream else "") + (f" tag={tag}" if tag else "")
        lines.append(f"alloc {name} {size}{options} -> {names.place(live[name].address, model.snapshot())}")
        return name

    def free(name):
        model.release(live.pop(name))
        lines.append(f"free {name}")

    layers = list(pairwise(widths))
    for rows, columns in layers:
        for _ in range(3):  # weights, two moments
            allocate(4 * rows * columns, tag="parameter")
            allocate(4 * columns, tag="parameter")
    for _ in range(steps):
        batch = chance.choice([64, 256, 1000, 1024, 4096])
        data = allocate(4 * batch * widths[0], stream=1, tag="copy")
        model.record_stream(live[data], 0)
        lines.append(f"record {data} 0")
        saved = []
        for _, columns in layers:
            product = allocate(4 * batch * columns, tag="matmul")
            saved.append((product, allocate(4 * batch * columns, tag="relu")))
            if chance.random() < 0.3:
                free(allocate(chance.randrange(1, 6 * MIB), tag="workspace"))
        cotangent = allocate(4, tag="loss")
        for (rows, columns), (product, output) in zip(reversed(layers), reversed(saved), strict=True):
            free(output)
            fresh = allocate(4 * batch * rows, tag="matmul_backward")
            weight, bias = allocate(4 * rows * columns, tag="gradient"), allocate(4 * columns, tag="gradient")
            free(product)
            free(cotangent)
            cotangent = fresh
            if chance.random() < 0.5:
                free(weight)
                free(bias)
            else:
                free(bias)
                free(weight)
        free(cotangent)
        free(data)
        if chance.random() < 0.7:
            model.finish(0)
            lines.append("finish 0")
        lines.append(
            "check " + " ".join(
                f"{key}={model.stats[key]}" for key in ("reserved_bytes.all.current", "allocated_bytes.all.peak"))
        )
    for name in list(live):
        free(name)
    lines.append(f"empty -> {model.empty_cache()}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(training_trace())
