"""Layers, losses, containers and their base class; see `Module`."""
# ruff: noqa: F401, F403

from ferrox.nn import functional, init, utils
from ferrox.nn.activation import *
from ferrox.nn.containers import *
from ferrox.nn.distance import *
from ferrox.nn.dropout import *
from ferrox.nn.embedding import *
from ferrox.nn.linear import *
from ferrox.nn.loss import *
from ferrox.nn.module import Module
from ferrox.nn.normalization import *
from ferrox.nn.parameter import Parameter
