"""Layers, losses, containers and their base class; see `Module`."""
# ruff: noqa: F403

# "as" tells type checkers that the name belongs to this package.
from ferrox.nn import functional as functional
from ferrox.nn import init as init
from ferrox.nn import utils as utils
from ferrox.nn.activation import *
from ferrox.nn.containers import *
from ferrox.nn.distance import *
from ferrox.nn.dropout import *
from ferrox.nn.embedding import *
from ferrox.nn.linear import *
from ferrox.nn.loss import *
from ferrox.nn.module import Module as Module
from ferrox.nn.normalization import *
from ferrox.nn.parameter import Parameter as Parameter
