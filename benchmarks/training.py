"""Training steps: forward, loss, backward and optimiser, from the same initial weights."""

import itertools

from harness import agree, duration, interleave, load, table

NETS = [
    ((8, 16, 1), "Adam", 1),
    ((8, 16, 1), "Adam", 32),
    ((64, 128, 10), "SGD", 32),
    ((64, 128, 10), "Adam", 32),
    ((64, 128, 10), "Adam", 256),
    ((784, 256, 128, 10), "Adam", 32),
    ((784, 256, 128, 10), "Adam", 256),
]


class Trainer:
    """One system's net on batches that all systems share; the loss of the last step can be read."""

    def __init__(self, module, sizes, optimiser, batches, fused=False):
        nn, functional = module.nn, module.nn.functional
        layers = []
        for k, (wide, out) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Linear(wide, out)] + ([nn.ReLU()] if k < len(sizes) - 2 else [])
        self.net = nn.Sequential(*layers)
        self.loss_of = functional.mse_loss if sizes[-1] == 1 else functional.cross_entropy
        self.batches = [tuple(module.from_numpy(each) for each in batch) for batch in batches]
        options = {"fused": True} if fused else {}
        parameters = self.net.parameters()
        self.optimiser = (
            module.optim.SGD(parameters, lr=0.01, momentum=0.9, **options)
            if optimiser == "SGD"
            else module.optim.Adam(parameters, lr=0.001, **options)
        )
        self.at = 0
        self.loss = None

    def copy_weights(self, arrays, module):
        with module.no_grad():
            for parameter, array in zip(self.net.parameters(), arrays, strict=True):
                parameter.copy_(module.from_numpy(array))

    def step(self):
        x, y = self.batches[self.at]
        self.at = (self.at + 1) % len(self.batches)
        self.optimiser.zero_grad()
        loss = self.loss_of(self.net(x), y)
        loss.backward()
        self.optimiser.step()
        self.loss = loss


def batches_of(sizes, batch, numpy, count=8):
    stream = numpy.random.default_rng(0)
    for _ in range(count):
        x = stream.standard_normal((batch, sizes[0])).astype("float32")
        yield (
            x,
            (
                stream.standard_normal((batch, 1)).astype("float32")
                if sizes[-1] == 1
                else stream.integers(0, sizes[-1], batch)
            ),
        )


def train(settings):
    import numpy as np

    import ferrox as fx

    torch = load("torch")
    rows = []
    for sizes, optimiser, batch in NETS[:4] if settings.tiny else NETS:
        label = f"{'-'.join(map(str, sizes))}, {optimiser}, {batch}"
        batches = list(batches_of(sizes, batch, np))
        stream = np.random.default_rng(1)
        weights = [
            array.astype("float32")
            for wide, out in itertools.pairwise(sizes)
            for array in (stream.uniform(-1, 1, (out, wide)) / wide**0.5, np.zeros(out))
        ]
        trainers = {"Ferrox": (fx, Trainer(fx, sizes, optimiser, batches))}
        if torch:
            trainers["PyTorch"] = (torch, Trainer(torch, sizes, optimiser, batches))
            trainers["PyTorch fused"] = (torch, Trainer(torch, sizes, optimiser, batches, True))
        for module, trainer in trainers.values():
            trainer.copy_weights(weights, module)
            for _ in range(3):
                trainer.step()
        agree(
            f"{label}: loss after three steps", {name: trainer.loss.item() for name, (_, trainer) in trainers.items()}
        )
        medians = interleave({name: trainer.step for name, (_, trainer) in trainers.items()}, settings, label)
        if not all(np.isfinite(trainer.loss.item()) for _, trainer in trainers.values()):
            raise SystemExit(f"{label}: the loss is not finite at the end")
        rows.append(
            [
                label,
                *(duration(medians.get(name)) for name in ("Ferrox", "PyTorch", "PyTorch fused")),
                f"{1 / medians['Ferrox']:,.0f}",
                *(
                    f"{medians[name] / medians['Ferrox']:.2f}x" if torch else "-"
                    for name in ("PyTorch", "PyTorch fused")
                ),
            ]
        )
    return table(
        "Training step, float32",
        [
            "net, optimiser, batch",
            "Ferrox",
            "PyTorch",
            "PyTorch fused",
            "Ferrox steps/s",
            "against PyTorch",
            "against fused",
        ],
        rows,
        "Same weights at the start, same loss after three steps.",
    )
