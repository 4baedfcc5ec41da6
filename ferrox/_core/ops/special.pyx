"""The functions of `ferrox.special`: those that have a name at the top too, under the names of torch.special."""
from ferrox._core.graph.op import alias_row

for _name, _of in {
    "digamma": "digamma", "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "exp2": "exp2", "expit": "sigmoid",
    "expm1": "expm1", "gammaln": "lgamma", "log1p": "log1p", "log_softmax": "log_softmax", "logit": "logit",
    "logsumexp": "logsumexp", "polygamma": "polygamma", "psi": "digamma", "round": "round", "sinc": "sinc",
    "softmax": "softmax", "xlogy": "xlogy",
}.items():
    alias_row(_name, of=_of, namespace="special")
