"""Settings of the CUDA backend; they need no GPU."""
from ferrox._core.cuda import blaslt as _blaslt
from ferrox._core.cuda import gemm as _gemm

__all__ = ["matmul"]


class _Matmul:
    """Settings of matrix products."""

    __slots__ = ()

    @property
    def allow_tf32(self):
        """Whether products of float32 may round their operands to 10 bits of mantissa (tf32), which tensor cores
        multiply about ten times as fast; off by default.

        Examples
        --------
        >>> import ferrox as fx
        >>> fx.backends.cuda.matmul.allow_tf32
        False
        """
        return _gemm.get_allow_tf32()

    @allow_tf32.setter
    def allow_tf32(self, allow):
        if not isinstance(allow, bool):
            raise TypeError(f"allow_tf32 must be a bool, not {type(allow).__name__}")
        _gemm.set_allow_tf32(allow)

    @property
    def allow_cublaslt(self):
        """Whether large products may go to cuBLASLt, where it is installed (``pip install nvidia-cublas``) and was
        faster when it was tried; on by default.  FERROX_CUBLASLT=0 in the environment turns it off too.

        Examples
        --------
        >>> import ferrox as fx
        >>> fx.backends.cuda.matmul.allow_cublaslt
        True
        """
        return _blaslt.get_allowed()

    @allow_cublaslt.setter
    def allow_cublaslt(self, allow):
        if not isinstance(allow, bool):
            raise TypeError(f"allow_cublaslt must be a bool, not {type(allow).__name__}")
        _blaslt.set_allowed(allow)


matmul = _Matmul()
