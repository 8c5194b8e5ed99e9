"""Exact results in closed form, as functions of tensors."""

from . import conjugate as conjugate
from .table import Table as Table
