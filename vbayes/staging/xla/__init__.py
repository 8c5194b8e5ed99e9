"""A second back end: a graph of tensor operations handed to XLA, by way of jax.

It has what the compiler to C lacks (convolutions, decompositions of matrices, sorting, draws of gammas), and runs on any device that jax knows. Each operation of ATen is a
function of jax arrays; steps follow one another inside one compiled call. It knows of torch and jax, and of nothing else in this package.

| file | |
|---|---|
| `rules/` | operation → function of jax arrays, by family; `rules/pointwise.py` is the table of those on single numbers |
| `translate` | a graph of ATen operations → a function of jax arrays |
| `crossing` | tensors of torch as arrays of jax and back, by DLPack: small ones packed into one vector |
| `jitted` | `jax.jit`, and on a processor small programs as one kernel |
| `program` | `XLA`: one run, many runs side by side, many steps in one call |

jax is an extra: only `load` is imported with the package, everything else once `load.jax` has found it.
"""

from .load import BackendMissing as BackendMissing
from .load import jax as jax
from .load import missing as missing
