"""A small compiler: a graph of tensor operations to C, where all of a step is one call and nothing is allocated.

It is meant for small programs that run very often, for which the code of a general compiler spends its time on allocating and
passing on small tensors. It depends on torch, and on nothing else in this package.

The passes, in their order, and what each makes:

| pass | from | to | |
|---|---|---|---|
| `lower` | a graph of ATen operations | `ir.Graph` | values, each made from others; rules by family in `rules/` |
| `products` | `Graph` | `Graph` | sums of outer products as products, and which way round each lies |
| `fold` | `Graph` | `Graph` | what is the same in every step, as constants |
| `schedule` | `Graph` | `Schedule` | which values one loop nest makes |
| `memory` | `Schedule` | `Layout` | what is stored, and where |
| `emit` | `Layout` | C | a function for each kernel: `loops`, `arrays`, `matrices` (with `blas`); it includes `runtime.h`, whose loops are shared out by `threads.c`, and calls `products.c` or BLAS |
| `build` | C | machine code | by the compiler that is there, kept in a folder (`private_folder`) |

`passes.translate` runs all but the last, `program.Native` is the result, called with tensors. Any of the forms can be read
(`show`), checked (`verify`) and run by NumPy (`interpret`). What single numbers can undergo is the table in `ops`.
"""

from .build import CompilerMissing as CompilerMissing
from .interpret import interpret as interpret
from .ir import Unsupported as Unsupported
from .lower import called as called
from .lower import supported as supported
from .passes import PassFailed as PassFailed
from .passes import Translation as Translation
from .passes import first_departure as first_departure
from .passes import translate as translate
from .printer import show as show
from .program import Native as Native
from .program import Run as Run
from .program import run as run
from .verify import Broken as Broken
from .verify import verify as verify
