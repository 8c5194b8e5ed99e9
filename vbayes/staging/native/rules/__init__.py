"""How operations of ATen become values, by family. To import a file is to register its rules."""

from . import arithmetic as arithmetic
from . import indexing as indexing
from . import linear_algebra as linear_algebra
from . import reductions as reductions
from . import shapes as shapes
from .registry import RULES as RULES
