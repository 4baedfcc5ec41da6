"""A classifier for scikit-learn's digits, beside scikit-learn's own MLPClassifier.

    python examples/mlp_classifier.py [--epochs 60] [--seed 0] [--out out]

Both see the same split, the same inputs (pixels from 0 to 1) and the same hidden layers.  Beyond them Ferrox uses what
scikit-learn's net does not have, dropout and smoothed labels, and stops early.  Prints the accuracy on the test set.
"""

import warnings

from common import arguments, check_checkpoint, fit, plot_curves
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import ferrox as fx
from ferrox import nn

HIDDEN = (128, 64)


def make_model():
    return nn.Sequential(
        nn.Linear(64, HIDDEN[0]),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(HIDDEN[0], HIDDEN[1]),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(HIDDEN[1], 10),
    )


def main():
    args = arguments("Ferrox and scikit-learn on the digits.", epochs=60)
    fx.manual_seed(args.seed)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    x_rest, x_test, y_rest, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    x_train, x_val, y_train, y_val = train_test_split(x_rest, y_rest, test_size=0.1, random_state=1, stratify=y_rest)

    model = make_model()
    curves = fit(
        model,
        nn.CrossEntropyLoss(label_smoothing=0.05),
        (fx.from_numpy(x_train), fx.from_numpy(y_train)),
        (fx.from_numpy(x_val), fx.from_numpy(y_val)),
        epochs=args.epochs,
        batch_size=32,
        lr=2e-3,
        weight_decay=1e-2,
        patience=25,
    )
    with fx.no_grad():
        predicted = model(fx.from_numpy(x_test)).argmax(1).numpy()
    ours = (predicted == y_test).mean()

    theirs = MLPClassifier(hidden_layer_sizes=HIDDEN, max_iter=200, random_state=args.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(x_rest, y_rest)
    print(f"accuracy     ferrox, with dropout and smoothed labels, {ours:.4f}")
    print(f"             scikit-learn, with neither, {theirs.score(x_test, y_test):.4f}")

    plot_curves(curves, args.out / "mlp_classifier.png", "Digits: 64-128-64-10", "cross-entropy (smoothed labels)")
    print(f"curve        {args.out / 'mlp_classifier.png'}")
    check_checkpoint(model, make_model(), fx.from_numpy(x_test), args.out / "mlp_classifier.safetensors")


if __name__ == "__main__":
    main()
