"""A small compiler: captured tensor programs to C, where all of a step is one call and nothing is allocated.

graph (ATen) → values (`lower`) → kernels (`schedule`) → C (`source`) → machine code (`build`) → `Native`.

What it is for is small programs run very often: there, the time of a general compiler's code goes into allocating and
passing on each small tensor. Matrix products go to the BLAS that torch itself uses.
"""

from .build import CompilerMissing as CompilerMissing
from .ir import Unsupported as Unsupported
from .program import Native as Native
from .program import Run as Run
from .program import compile_native as compile_native
from .program import compiled_or_why as compiled_or_why
from .program import run as run
