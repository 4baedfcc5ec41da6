"""Metrics against scikit-learn."""

import math
import random
import warnings

import pytest
from peers import sklearn_metrics as sk

import ferrox as fx
from ferrox import metrics as M


def labels(seed, n, classes):
    rng = random.Random(seed)
    return [rng.randrange(classes) for _ in range(n)], [rng.randrange(classes) for _ in range(n)]


def chunks(*tensors, size=7):
    for start in range(0, tensors[0].shape[0], size):
        yield tuple(tensor[start : start + size] for tensor in tensors)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_accuracy_and_confusion(classes, n):
    preds, target = labels(classes * 100 + n, n, classes)
    p, t = fx.tensor(preds), fx.tensor(target)
    assert M.accuracy(p, t).item() == sk.accuracy_score(target, preds)
    expected = sk.confusion_matrix(target, preds, labels=list(range(classes)))
    assert M.confusion_matrix(p, t, classes).tolist() == expected.tolist()
    counter, accuracy = M.ConfusionMatrix(), M.Accuracy()
    for batch in chunks(p, t):
        counter.update(*batch)
        accuracy.update(*batch)
    size = max(preds + target) + 1
    assert counter.compute().tolist() == expected[:size, :size].tolist()
    assert accuracy.compute().item() == M.accuracy(p, t).item()
    for normalize in ("true", "pred", "all"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = sk.confusion_matrix(target, preds, labels=list(range(classes)), normalize=normalize)
        got = M.confusion_matrix(p, t, classes, normalize=normalize).tolist()
        assert [pytest.approx(row, rel=1e-15) for row in expected.tolist()] == got


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("average", ["binary", "micro", "macro", "weighted", None])
@pytest.mark.parametrize("zero_division", [0.0, 1.0])
def test_scores(name, average, zero_division):
    reference = getattr(sk, f"{name}_score")
    for seed, (n, classes) in enumerate([(1, 2), (5, 2), (40, 2), (6, 5), (40, 5), (3, 9)]):
        if average == "binary" and classes > 2:
            continue
        preds, target = labels(seed, n, classes)
        p, t = fx.tensor(preds), fx.tensor(target)
        options = {"average": average, "zero_division": zero_division}
        if average == "binary":
            expected = reference(target, preds, pos_label=1, labels=[0, 1], **options)
        else:
            expected = reference(target, preds, labels=list(range(classes)), **options)
        got = getattr(M, name)(p, t, num_classes=classes, **options).tolist()
        assert got == pytest.approx(expected if average else expected.tolist(), rel=1e-14)
        if average not in ("binary", None):
            # Without a number of classes the mean is over those that occur, as scikit-learn's default.
            assert getattr(M, name)(p, t, **options).item() == pytest.approx(
                reference(target, preds, **options), rel=1e-14
            )
        metric = getattr(M, name.capitalize())(num_classes=classes, **options)
        for batch in chunks(p, t):
            metric.update(*batch)
        assert metric.compute().tolist() == got
        metric.reset()
        metric.update(p, t)
        assert metric.compute().tolist() == got


def test_scores_and_probabilities_as_predictions():
    target = fx.tensor([0, 1, 1, 0])
    assert M.accuracy(fx.tensor([0.2, 0.7, 0.4, 0.5]), target).item() == 0.75
    logits = fx.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [5.0, 1.0]])
    assert M.accuracy(logits, target).item() == 0.75
    assert M.recall(logits, target).item() == 0.5
    assert M.confusion_matrix(logits, target).tolist() == [[2, 0], [1, 1]]


@pytest.mark.filterwarnings("ignore:'k' .5. greater")
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k(k):
    numpy = pytest.importorskip("numpy")
    rng = numpy.random.default_rng(k)
    scores, target = rng.normal(size=(60, 5)), rng.integers(0, 5, 60)
    expected = sk.top_k_accuracy_score(target, scores, k=k, labels=list(range(5)))
    p, t = fx.tensor(scores.tolist(), dtype=fx.float64), fx.tensor(target.tolist())
    assert M.accuracy(p, t, topk=k).item() == expected
    metric = M.Accuracy(topk=k)
    for batch in chunks(p, t):
        metric.update(*batch)
    assert metric.compute().item() == expected


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 10, 300])
def test_auroc(ties, n):
    numpy = pytest.importorskip("numpy")
    rng = numpy.random.default_rng(n)
    scores = rng.normal(size=n).round(1 if ties else 12)
    target = rng.permutation(numpy.arange(n) % 2)
    p, t = fx.tensor(scores.tolist(), dtype=fx.float64), fx.tensor(target.tolist())
    expected = sk.roc_auc_score(target, scores)
    assert M.auroc(p, t).item() == pytest.approx(expected, rel=1e-14)
    metric = M.AUROC()
    for batch in chunks(p, t):
        metric.update(*batch)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("average", ["macro", "weighted", None])
def test_multiclass_auroc(average):
    numpy = pytest.importorskip("numpy")
    rng = numpy.random.default_rng(0)
    scores, target = rng.dirichlet([1, 1, 1, 1], 80).round(2), rng.integers(0, 4, 80)
    scores[:, 0] += 1 - scores.sum(1)
    expected = sk.roc_auc_score(target, scores, multi_class="ovr", average=average)
    got = M.auroc(fx.tensor(scores.tolist(), dtype=fx.float64), fx.tensor(target.tolist()), average=average)
    assert got.tolist() == pytest.approx(expected if average else expected.tolist(), rel=1e-14)


def test_auroc_of_one_class():
    with pytest.warns(UserWarning, match="only one class"):
        assert math.isnan(M.auroc(fx.tensor([0.1, 0.2]), fx.tensor([1, 1])).item())


@pytest.mark.parametrize("shape", [(2,), (100,), (50, 3)])
def test_regression(shape):
    numpy = pytest.importorskip("numpy")
    rng = numpy.random.default_rng(shape[0])
    target = rng.normal(size=shape) + 1e4
    preds = target + rng.normal(size=shape)
    p, t = fx.tensor(preds.tolist(), dtype=fx.float64), fx.tensor(target.tolist(), dtype=fx.float64)
    root = sk.mean_squared_error(target, preds) ** 0.5
    cases = [
        (M.mean_squared_error(p, t), M.MeanSquaredError(), sk.mean_squared_error(target, preds)),
        (M.mean_squared_error(p, t, squared=False), M.MeanSquaredError(False), root),
        (M.mean_absolute_error(p, t), M.MeanAbsoluteError(), sk.mean_absolute_error(target, preds)),
    ]
    for multioutput in ("uniform_average", "variance_weighted"):
        expected = sk.r2_score(target, preds, multioutput=multioutput)
        cases.append((M.r2_score(p, t, multioutput), M.R2Score(multioutput), expected))
    for value, metric, expected in cases:
        assert value.item() == pytest.approx(expected, rel=1e-11)
        for _ in range(2):
            for batch in chunks(p, t):
                metric.update(*batch)
            assert metric.compute().item() == pytest.approx(expected, rel=1e-9)
            metric.reset()
    raw = sk.r2_score(target, preds, multioutput="raw_values")
    assert M.r2_score(p, t, "raw_values").tolist() == pytest.approx(raw.tolist(), rel=1e-11)


def test_r2_of_constant_targets():
    for preds in ([2.0, 2.0], [2.0, 3.0]):
        expected = sk.r2_score([2.0, 2.0], preds)
        assert M.r2_score(fx.tensor(preds), fx.tensor([2.0, 2.0])).item() == expected
    with pytest.warns(UserWarning, match="fewer than two"):
        assert math.isnan(M.r2_score(fx.tensor([1.0]), fx.tensor([1.0])).item())


def test_errors():
    with pytest.raises(ValueError, match=r"shapes do not match: preds is \(2,\), target is \(3,\)"):
        M.accuracy(fx.tensor([0, 1]), fx.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="no samples"):
        M.accuracy(fx.zeros(0, dtype=fx.int64), fx.zeros(0, dtype=fx.int64))
    with pytest.raises(ValueError, match="no samples"):
        M.F1().compute()
    with pytest.raises(ValueError, match="average must be one of"):
        M.f1(fx.tensor([0]), fx.tensor([0]), average="mean")
    with pytest.raises(ValueError, match="3 classes, but average is 'binary'"):
        M.f1(fx.tensor([0, 2]), fx.tensor([0, 1]))
    with pytest.raises(ValueError, match="num_classes is 2, but there is a class index 4"):
        M.confusion_matrix(fx.tensor([4]), fx.tensor([0]), 2)
    with pytest.raises(TypeError, match="target must hold class indices"):
        M.accuracy(fx.tensor([0]), fx.tensor([0.5]))
    with pytest.raises(ValueError, match="contains NaN"):
        M.auroc(fx.tensor([math.nan, 1.0]), fx.tensor([0, 1]))
