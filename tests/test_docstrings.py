"""The examples in the docstrings of operators and public modules run."""

import doctest
import importlib
import pkgutil

import pytest

import ferrox as fx
from ferrox._core.graph.op import operators

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def of_operators():
    parser = doctest.DocTestParser()
    distinct = {id(op): (name, op) for name, op in reversed(operators().items())}
    for name, op in distinct.values():
        yield parser.get_doctest(op.__doc__ or "", {"fx": fx}, f"ferrox.{name}", None, 0)


def of_modules():
    finder = doctest.DocTestFinder()
    names = [each.name for each in pkgutil.walk_packages(fx.__path__, "ferrox.") if "._core" not in each.name]
    for name in ["ferrox", *names]:
        # In `ferrox` itself bool, int and float are dtypes, which a reader's session has not imported.
        yield from finder.find(importlib.import_module(name), name, globs={} if name == "ferrox" else None)


def examples():
    tests = {test.name: test for test in [*of_modules(), *of_operators()] if test.examples}
    return [pytest.param(tests[name], id=name) for name in sorted(tests)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("test", examples())
def test_examples_run(test):
    report = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert not result.failed, "".join(report)
