"""Exact truth: tensors in, tensors out."""

from . import conjugate as conjugate
from .table import Table as Table
