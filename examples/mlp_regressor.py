"""A regressor for scikit-learn's diabetes data, beside scikit-learn's own MLPRegressor.

    python examples/mlp_regressor.py [--epochs 200] [--seed 0] [--out out]

Both see the same split, the same standardised inputs and targets, and the same hidden layers; both stop early on
held-out samples.  scikit-learn's net knows no dropout, and the data are few: so Ferrox trains the net twice, once as
scikit-learn has it and once with dropout, and the two figures are told apart.  Prints R² on the test set (1 is
perfect, 0 is the mean of the targets); the set is small (89 samples), so that a few hundredths between two runs or two
splits mean little.
"""

import warnings

from common import arguments, check_checkpoint, fit, plot_curves, standardised
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor

import ferrox as fx
from ferrox import nn

HIDDEN = (64, 32)
DROPOUT = 0.4


def make_model(n_features, dropout):
    return nn.Sequential(
        nn.Linear(n_features, HIDDEN[0]),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN[0], HIDDEN[1]),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN[1], 1),
        nn.Flatten(0),
    )


def train(args, dropout, train_set, validation_set, what):
    """A net trained with this dropout, and its curves."""
    fx.manual_seed(args.seed)
    model = make_model(train_set[0].shape[1], dropout)
    curves = fit(
        model,
        nn.MSELoss(),
        train_set,
        validation_set,
        epochs=args.epochs,
        batch_size=32,
        lr=1e-3,
        weight_decay=1e-2,
        patience=40,
        what=what,
    )
    return model, curves


def main():
    args = arguments("Ferrox and scikit-learn on the diabetes data.", epochs=200)
    x, y = load_diabetes(return_X_y=True)
    x_rest, x_test, y_rest, y_test = train_test_split(x, y, test_size=0.2, random_state=42)
    x_train, x_val, y_train, y_val = train_test_split(x_rest, y_rest, test_size=0.15, random_state=1)
    x_train, x_val, x_test, x_rest = standardised(x_train, x_val, x_test, x_rest)
    y_train, y_val, y_test, y_rest = standardised(y_train, y_val, y_test, y_rest)

    sets = (fx.from_numpy(x_train), fx.from_numpy(y_train)), (fx.from_numpy(x_val), fx.from_numpy(y_val))
    plain, _ = train(args, 0.0, *sets, "no dropout")
    model, curves = train(args, DROPOUT, *sets, f"dropout {DROPOUT}")
    with fx.no_grad():
        without, ours = (r2_score(y_test, each(fx.from_numpy(x_test)).numpy()) for each in (plain, model))

    theirs = MLPRegressor(
        hidden_layer_sizes=HIDDEN,
        early_stopping=True,
        validation_fraction=0.15,
        max_iter=500,
        random_state=args.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(x_rest, y_rest)
    print(f"test R²      the same net: ferrox {without:.4f}, scikit-learn {theirs.score(x_test, y_test):.4f}")
    print(f"             with dropout {DROPOUT}, which scikit-learn does not have: ferrox {ours:.4f}")

    title = f"Diabetes: 10-64-32-1, dropout {DROPOUT}"
    plot_curves(curves, args.out / "mlp_regressor.png", title, "mean squared error (standardised)")
    print(f"curve        {args.out / 'mlp_regressor.png'}")
    fresh = make_model(x.shape[1], DROPOUT)
    check_checkpoint(model, fresh, fx.from_numpy(x_test), args.out / "mlp_regressor.safetensors")


if __name__ == "__main__":
    main()
