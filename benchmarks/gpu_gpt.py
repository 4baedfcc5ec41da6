"""A small GPT on the device, the same program in each library: blocks of attention and a feed-forward network."""

import numpy as np


class GPT:
    """Token and position embeddings, `layers` pre-norm blocks, a head that shares nothing; weights from a seed."""

    def __init__(self, system, vocabulary, length, width, heads, layers):
        self.system, self.library, self.heads = system, system.library, heads
        draw = np.random.default_rng(3)

        def weight(*shape, scale=0.02):
            parameter = system.tensor(draw.standard_normal(shape, dtype="f4") * np.float32(scale))
            return self.library.nn.Parameter(parameter)

        def ones(n):
            return self.library.nn.Parameter(system.tensor(np.ones(n, dtype="f4")))

        def zeros(n):
            return self.library.nn.Parameter(system.tensor(np.zeros(n, dtype="f4")))

        self.tokens, self.places = weight(vocabulary, width), weight(length, width)
        self.blocks = [
            {
                "norm1": (ones(width), zeros(width)), "qkv": (weight(3 * width, width), zeros(3 * width)),
                "out": (weight(width, width), zeros(width)), "norm2": (ones(width), zeros(width)),
                "up": (weight(4 * width, width), zeros(4 * width)), "down": (weight(width, 4 * width), zeros(width)),
            }
            for _ in range(layers)
        ]  # fmt: skip
        self.norm, self.head = (ones(width), zeros(width)), weight(vocabulary, width)

    def parameters(self):
        return [self.tokens, self.places, *(p for block in self.blocks for pair in block.values() for p in pair),
                *self.norm, self.head]

    def loss(self, indices, targets):
        f, (batch, length), width = self.system.functional, indices.shape, self.tokens.shape[1]
        x = f.embedding(indices, self.tokens) + self.places
        for block in self.blocks:
            y = f.linear(f.layer_norm(x, (width,), *block["norm1"]), *block["qkv"])
            q, k, v = (each.reshape(batch, length, self.heads, -1).transpose(1, 2) for each in y.chunk(3, -1))
            y = f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, width)
            x = x + f.linear(y, *block["out"])
            y = f.gelu(f.linear(f.layer_norm(x, (width,), *block["norm2"]), *block["up"]))
            x = x + f.linear(y, *block["down"])
        logits = f.linear(f.layer_norm(x, (width,), *self.norm), self.head)
        return f.cross_entropy(logits.reshape(batch * length, -1), targets.reshape(-1))


def step_of(system, vocabulary, batch, length, width, heads, layers):
    """A training step with AdamW: a function that returns the loss."""
    model = GPT(system, vocabulary, length, width, heads, layers)
    optimiser = system.library.optim.AdamW(model.parameters(), lr=1e-3)
    draw = np.random.default_rng(4)
    indices, targets = (
        system.library.from_numpy(draw.integers(0, vocabulary, (batch, length))).to("cuda") for _ in range(2)
    )

    def step():
        optimiser.zero_grad()
        loss = model.loss(indices, targets)
        loss.backward()
        optimiser.step()
        return loss

    return step
