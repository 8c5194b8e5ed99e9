"""Operations of ATen as functions of jax arrays, by family."""

from . import convolutions as convolutions
from . import draws as draws
from . import implicit as implicit
from . import indexing as indexing
from . import linear_algebra as linear_algebra
from . import made as made
from . import pointwise as pointwise
from . import pooling as pooling
from . import reductions as reductions
from . import shapes as shapes
from . import sorting as sorting
from .registry import DRAWS as DRAWS
from .registry import RULES as RULES
from .registry import Unsupported as Unsupported
