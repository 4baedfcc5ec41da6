"""What the examples share: arguments, the training loop with early stopping, the curve, the checkpoint's check."""

import argparse
import copy
from pathlib import Path

import matplotlib
import numpy as np
from tqdm import tqdm

import ferrox as fx
from ferrox.utils.data import DataLoader, TensorDataset

matplotlib.use("Agg")


def arguments(description, epochs):
    """The command line of an example."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=epochs, help="most passes over the training set")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order of the samples")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the curve and the checkpoint")
    chosen = parser.parse_args()
    if chosen.epochs < 1:
        parser.error("--epochs must be at least 1")
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def standardised(train, *others):
    """Arrays with the mean and the deviation of `train` taken out; a column that never changes becomes zero."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return [((each - mean) / deviation).astype(np.float32) for each in (train, *others)]


def mean_loss(model, criterion, x, y):
    """The loss over a whole set, with dropout off."""
    model.eval()
    with fx.no_grad():
        loss = criterion(model(x), y).item()
    model.train()
    return loss


def fit(model, criterion, train, validation, *, epochs, batch_size, lr, weight_decay, patience, what="training"):
    """Train with AdamW, leave the model with the weights of its best epoch, say when that was; returns the two curves.

    Parameters
    ----------
    train, validation : tuple of Tensor
        Inputs and targets.
    patience : int
        Epochs without a better validation loss after which training stops.
    what : str
        What the progress bar and the last line call it.

    Returns
    -------
    dict
        The losses after each epoch under "train" and "validation".
    """
    loader = DataLoader(TensorDataset(*train), batch_size=batch_size, shuffle=True)
    optimizer = fx.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = fx.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    curves = {"train": [], "validation": []}
    best, best_state, best_epoch = float("inf"), None, 0
    with tqdm(range(epochs), desc=what, unit="epoch") as bar:
        for epoch in bar:
            for x, y in loader:
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
            schedule.step()
            curves["train"].append(mean_loss(model, criterion, *train))
            curves["validation"].append(mean_loss(model, criterion, *validation))
            if curves["validation"][-1] < best:
                best, best_state, best_epoch = curves["validation"][-1], copy.deepcopy(model.state_dict()), epoch
            bar.set_postfix(train=f"{curves['train'][-1]:.4f}", validation=f"{curves['validation'][-1]:.4f}")
            if epoch - best_epoch >= patience:
                break
    done = len(curves["train"])
    stopped = f"stopped after {done} epochs of {epochs}: {patience} without a better validation loss" if done < epochs \
        else f"ran all {epochs} epochs"
    print(f"{what + ':':<12} {stopped}; the weights are those of epoch {best_epoch + 1}, validation loss {best:.4f}")
    if best_state is None:
        raise RuntimeError("the validation loss was never finite: lower the learning rate")
    model.load_state_dict(best_state)
    model.eval()
    return curves


def plot_curves(curves, path, title, label):
    """Save the training and the validation curve, with the best epoch marked."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    epochs = np.arange(1, len(curves["train"]) + 1)
    for name, values in curves.items():
        axes.plot(epochs, values, label=name, linewidth=1.6, marker="." if len(epochs) < 30 else None)
    best = int(np.argmin(curves["validation"]))
    axes.axvline(best + 1, color="0.6", linestyle=":", label=f"best epoch ({best + 1})")
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def check_checkpoint(model, fresh, x, path):
    """Save `model`, load it into `fresh`, and require the same predictions to the last bit."""
    fx.save(model.state_dict(), path)
    fresh.load_state_dict(fx.load(path))
    fresh.eval()
    with fx.no_grad():
        same = bool((model(x) == fresh(x)).all())
    if not same:
        raise RuntimeError(f"{path}: the reloaded model predicts something else")
    print(f"checkpoint   {path} reloads to identical predictions")
