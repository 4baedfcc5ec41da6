"""The base class of accumulating metrics."""

__all__ = ["Metric"]


class Metric:
    """A metric over a stream of batches: `update` with each, `compute` the value so far, `reset` to start again."""

    def __init__(self):
        self.reset()

    def update(self, preds, target):
        """Take in a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not define update()")

    def compute(self):
        """Return the value over everything taken in since the last reset."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute()")

    def reset(self):
        """Forget everything taken in."""
        raise NotImplementedError(f"{type(self).__name__} does not define reset()")
