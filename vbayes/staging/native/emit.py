"""Kernels as C."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from .ir import (
    Assembly,
    Cholesky,
    Counter,
    Extreme,
    Gather,
    Pointwise,
    Product,
    Reduction,
    Scan,
    Scatter,
    Triangular,
    Unsupported,
    Value,
    View,
)
from .ops import PRELUDE, TYPES, literal
from .schedule import LARGE, Domain, Kernel, same_place, splits

IDENTITY = {"sum": 0, "prod": 1, "any": 0, "all": 1}
COMBINE = {
    "sum": "{a} += {x}",
    "prod": "{a} *= {x}",
    "any": "{a} |= {x}",
    "all": "{a} &= {x}",
    "amax": "{a} = {x} > {a} || {x} != {x} ? {x} : {a}",
    "amin": "{a} = {x} < {a} || {x} != {x} ? {x} : {a}",
}
OPERATOR = {"sum": "+", "prod": "*", "any": "|", "all": "&", "amax": "max", "amin": "min"}
EXTREMES = ("amax", "amin")
SMALL_PRODUCT = 4096  # multiplications up to which calling BLAS costs more than multiplying

HELPERS = """
typedef void (*sgemm_t)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                        const int*, const float*, const int*, const float*, float*, const int*);
typedef void (*dgemm_t)(const char*, const char*, const int*, const int*, const int*, const double*, const double*,
                        const int*, const double*, const int*, const double*, double*, const int*);
static sgemm_t sgemm; static dgemm_t dgemm; static int out_of_range;
static inline long place(long i, long n) {
  if (i < 0) i += n;
  if ((unsigned long)i >= (unsigned long)n) { out_of_range = 1; return 0; }
  return i;
}
"""

DRIVER = """
void set_blas(void* s, void* d) { sgemm = (sgemm_t)s; dgemm = (dgemm_t)d; }
void set_threads(int n) { omp_set_num_threads(n); }

/* A program with its arrays. Input i moves on by forward[i] bytes after each of its steps, output i by back[i] after every step.
   Where `finite` is an output, a step with 0 there is the last one. */
typedef struct {
  int (*program)(void**, void**, char*);
  void** in; void** out; char* work;
  long ins, outs;
  const long* forward; const long* back;
  long finite;
} call_t;

/* Steps by one program, or by several that overwrite the same states: step t by calls[which[t]].
   Returns the number of steps before one that is not finite, or -1 for an index that is out of range. */
long run(long steps, call_t* calls, long count, const uint8_t* which) {
  for (long t = 0; t < steps; t++) {
    call_t* c = calls + (which ? which[t] : 0);
    if (c->program(c->in, c->out, c->work)) return -1;
    if (c->finite >= 0 && !*(const uint8_t*)c->out[c->finite]) return t;
    for (long i = 0; i < c->ins; i++) c->in[i] = (char*)c->in[i] + c->forward[i];
    for (call_t* each = calls; each < calls + count; each++)
      for (long i = 0; i < each->outs; i++) each->out[i] = (char*)each->out[i] + each->back[i];
  }
  return steps;
}

/* The same where no step needs another one: threads share them out, and each has `size` bytes of working memory. */
long map(long steps, const call_t* c, long size, int threads) {
  int wrong = 0;
  #pragma omp parallel for schedule(static) num_threads(threads) reduction(|:wrong)
  for (long t = 0; t < steps; t++) {
    void* from[c->ins + 1];
    void* to[c->outs + 1];
    for (long i = 0; i < c->ins; i++) from[i] = (char*)c->in[i] + t * c->forward[i];
    for (long i = 0; i < c->outs; i++) to[i] = (char*)c->out[i] + t * c->back[i];
    wrong |= c->program(from, to, c->work + omp_get_thread_num() * size);
  }
  return wrong ? -1 : steps;
}
"""


class Source:
    """The C text of a program.

    Args:
        kernels: In their order.
        inputs: Values that are handed in.
        outputs: Values whose buffers are handed in.
        states: The first so many inputs are overwritten with the first as many outputs.

    Attributes:
        text: A translation unit with one entry, `run`.
        work: Bytes of working memory that it needs.
    """

    def __init__(
        self, kernels: list[Kernel], inputs: list[Value], outputs: list[Value], states: int, vector_math: str
    ) -> None:
        self.kernels = kernels
        self.names: dict[Value, str] = {}
        self.kept = _kept(kernels, outputs)
        new = {after: before for before, after in zip(inputs[:states], outputs, strict=False) if before is not after}
        self.overwrites = {after: before for after, before in new.items() if _safe(after, before, kernels)}
        places = {v: f"out[{i}]" for i, v in enumerate(outputs[states:])}
        places |= {v: f"in[{i}]" for i, v in enumerate(inputs)}
        places |= {after: places[before] for after, before in self.overwrites.items()}
        spots, self.work = _memory(kernels, self.kept - places.keys(), new.keys())
        places |= {v: f"work + {offset}" for v, offset in spots.items()}
        functions, calls = [], []
        for number, kernel in enumerate(kernels):
            made = [v for v in kernel.values if v in self.kept]
            read = list(dict.fromkeys(s for v in kernel.values for s in v.sources if s not in kernel.values))
            self.names = {v: f"v{i}" for i, v in enumerate(made)}
            self.names |= {before: self.names[after] for after, before in self.overwrites.items() if after in made}
            parameters = [f"{TYPES[v.dtype]}* restrict v{i}" for i, v in enumerate(made)]
            for value in read:
                if value not in self.names:
                    self.names[value] = f"v{len(parameters)}"
                    parameters.append(f"const {TYPES[value.dtype]}* restrict {self.names[value]}")
                    made.append(value)
            body = self._kernel(kernel)
            functions.append(f"static void k{number}({', '.join(parameters)}) {{\n{body}\n}}")
            calls.append(f"  k{number}({', '.join(f'(void*)({places[v]})' for v in made)});")
        for after, before in new.items():
            if after not in self.overwrites:
                size = f"{after.size} * sizeof({TYPES[after.dtype]})"
                calls.append(f"  memcpy({places[before]}, {places[after]}, {size});")
        # Of steps that run side by side, one of those that see the mark tells of it.
        program = "int program(void** in, void** out, char* work) {\n" + "\n".join(calls)
        program += "\n  const int wrong = out_of_range;\n  if (wrong) out_of_range = 0;\n  return wrong;\n}"
        self.text = "\n".join([PRELUDE.format(vector_math=vector_math), HELPERS, *functions, program, DRIVER])

    def _kernel(self, kernel: Kernel) -> str:
        if kernel.domain is not None:
            return Loops(kernel, kernel.domain, self.names, self.kept).text()
        (value,) = kernel.values
        write = {
            Product: self._product,
            Assembly: self._assembly,
            Scatter: self._scatter,
            Scan: self._scan,
            Extreme: self._extreme,
            Cholesky: self._cholesky,
            Triangular: self._triangular,
        }
        return write[type(value)](value)  # type: ignore[operator]

    def _product(self, value: Product) -> str:
        a, b = (o for o in value.operands if isinstance(o, View))
        *batch, m, n = value.shape
        k = a.shape[-1]
        c, t = self.names[value], TYPES[value.dtype]
        if value.dtype not in (torch.float32, torch.float64):
            raise Unsupported("a matrix product of integers")
        count = math.prod(batch)
        stacks = len(batch) == 1
        (sa, ra, ca), (sb, rb, cb) = ((v.strides[0] if stacks else 0, *v.strides[-2:]) for v in (a, b))
        A, B = f"({self.names[a.value]} + {a.offset} + s * {sa})", f"({self.names[b.value]} + {b.offset} + s * {sb})"
        C = f"({c} + s * {m * n})"
        flags = _blas(m, k, ra, ca), _blas(k, n, rb, cb)
        if m * n * k <= SMALL_PRODUCT or min(m, n) == 1 or None in flags:
            inner = (
                f"for (long j = 0; j < {n}; j++) {C}[i * {n} + j] += x * {B}[l * {rb} + j * {cb}];"
                if n > 1
                else f"{C}[i] += x * {B}[l * {rb}];"
            )
            if n == 1 and ca <= 1:  # rows lie together: a dot product each
                text = f"""    for (long i = 0; i < {m}; i++) {{
      {t} total = 0;
      #pragma omp simd reduction(+:total)
      for (long l = 0; l < {k}; l++) total += {A}[i * {ra} + l * {ca}] * {B}[l * {rb}];
      {C}[i] = total;
    }}"""
            elif n == 1:
                text = f"""    memset({C}, 0, {m} * sizeof({t}));
    for (long l = 0; l < {k}; l++) {{
      const {t} x = {B}[l * {rb}];
      for (long i = 0; i < {m}; i++) {C}[i] += x * {A}[i * {ra} + l * {ca}];
    }}"""
            else:
                text = f"""    memset({C}, 0, {m * n} * sizeof({t}));
    for (long i = 0; i < {m}; i++)
      for (long l = 0; l < {k}; l++) {{
        const {t} x = {A}[i * {ra} + l * {ca}];
        {inner}
      }}"""
        else:
            # Row-major C = A B is column-major C' = B' A'.
            (ta, lda), (tb, ldb) = flags  # type: ignore[misc]
            gemm = "sgemm" if value.dtype == torch.float32 else "dgemm"
            text = f"""    const int m = {m}, n = {n}, k = {k}, lda = {lda}, ldb = {ldb};
    const {t} one = 1, zero = 0;
    {gemm}("{tb}", "{ta}", &n, &m, &k, &one, {B}, &ldb, {A}, &lda, &zero, {C}, &n);"""
        return f"  for (long s = 0; s < {count}; s++) {{\n{text}\n  }}"

    def _assembly(self, value: Assembly) -> str:
        lines = []
        for (offset, strides, shape), view in zip(value.parts, value.operands, strict=True):
            assert isinstance(view, View)
            sizes, (to, source) = _collapse(shape, [strides, view.strides])
            lines.append(
                _nest(
                    sizes,
                    f"{self.names[value]}[{_index(offset, to)}] = {self.names[view.value]}[{_index(view.offset, source)}];",
                )
            )
        return "\n".join(lines)

    def _scatter(self, value: Scatter) -> str:
        base, source, *_ = value.operands
        assert isinstance(base, View) and isinstance(source, View)
        name = self.names[value]
        where = _indexed(value, View.whole(value), value.operands[2:], self.names)
        sign = "+=" if value.accumulate else "="
        put = f"{name}[{where}] {sign} {self.names[source.value]}[{_index(source.offset, source.strides)}];"
        copy = f"  memcpy({name}, {self.names[base.value]}, {value.size} * sizeof({TYPES[value.dtype]}));"
        return copy + "\n" + _nest(source.shape, put)

    def _cholesky(self, value: Cholesky) -> str:
        (a,) = value.operands
        assert isinstance(a, View)
        n, depth, t = value.shape[-1], len(value.shape) - 2, TYPES[value.dtype]
        f = "f" if value.dtype == torch.float32 else ""
        *outer, row, column = a.strides
        text = f"""{{
      const {t}* restrict a = {self.names[a.value]} + {_index(a.offset, tuple(outer))};
      {t}* restrict c = {self.names[value]} + {_index(0, View.whole(value).strides[:depth])};
      memset(c, 0, {n * n} * sizeof({t}));
      for (long j = 0; j < {n}; j++)
        for (long i = j; i < {n}; i++) {{
          {t} x = a[i * {row} + j * {column}];
          for (long l = 0; l < j; l++) x -= c[i * {n} + l] * c[j * {n} + l];
          c[i * {n} + j] = i == j ? sqrt{f}(x) : x / c[j * {n} + j];
        }}
    }}"""
        return _nest(value.shape[:depth], text)

    def _triangular(self, value: Triangular) -> str:
        a, b = (o for o in value.operands if isinstance(o, View))
        (n, m), depth, t = value.shape[-2:], len(value.shape) - 2, TYPES[value.dtype]
        a = a.expand((*value.shape[:depth], n, n))
        b = b.expand(value.shape)
        (*outer_a, ra, ca), (*outer_b, rb, cb) = a.strides, b.strides
        rows, known = f"r = 0; r < {n}; r++", "l = 0; l < r; l++"
        if value.upper:
            rows, known = f"r = {n - 1}; r >= 0; r--", f"l = r + 1; l < {n}; l++"
        divide = "" if value.unit else f"for (long j = 0; j < {m}; j++) x[r * {m} + j] /= a[r * {ra} + r * {ca}];"
        text = f"""{{
      const {t}* restrict a = {self.names[a.value]} + {_index(a.offset, tuple(outer_a))};
      const {t}* restrict b = {self.names[b.value]} + {_index(b.offset, tuple(outer_b))};
      {t}* restrict x = {self.names[value]} + {_index(0, View.whole(value).strides[:depth])};
      for (long {rows}) {{
        for (long j = 0; j < {m}; j++) x[r * {m} + j] = b[r * {rb} + j * {cb}];
        for (long {known})
          for (long j = 0; j < {m}; j++) x[r * {m} + j] -= a[r * {ra} + l * {ca}] * x[l * {m} + j];
        {divide}
      }}
    }}"""
        return _nest(value.shape[:depth], text)

    def _extreme(self, value: Extreme) -> str:
        (view,) = value.operands
        assert isinstance(view, View)
        order = [d for d in range(len(view.shape)) if d != value.dim]
        source = self.names[view.value]
        at = _index(view.offset, tuple(view.strides[d] for d in order))
        step, count = (view.meta.stride()[value.dim], view.shape[value.dim]) if view.shape else (0, 1)
        beats = ">" if value.kind == "amax" else "<"
        text = f"""{{
      long best = 0;
      for (long j = 1; j < {count}; j++) {{
        const {TYPES[view.value.dtype]} x = {source}[{at} + {step} * j], y = {source}[{at} + {step} * best];
        if (x {beats} y || (x != x && y == y)) best = j;
      }}
      {self.names[value]}[{_index(0, View.whole(value).strides)}] = best;
    }}"""
        return _nest(tuple(view.shape[d] for d in order), text)

    def _scan(self, value: Scan) -> str:
        (view,) = value.operands
        assert isinstance(view, View)
        whole = View.whole(value)
        order = [d for d in range(len(value.shape)) if d != value.dim] + [value.dim] if value.shape else []
        sizes = tuple(value.shape[d] for d in order)
        source = _index(view.offset, tuple(view.strides[d] for d in order))
        to = _index(0, tuple(whole.strides[d] for d in order))
        last = f"i{len(order) - 1}"
        step = whole.strides[value.dim] if order else 0
        text = f"{self.names[value]}[{to}] = {self.names[view.value]}[{source}]"
        text += f" + ({last} ? {self.names[value]}[{to} - {step}] : 0);" if order else ";"
        return _nest(sizes, text)


class Loops:
    """One loop nest over a domain, and all that is made in it."""

    def __init__(self, kernel: Kernel, domain: Domain, names: dict[Value, str], kept: set[Value]) -> None:
        self.kernel, self.names, self.kept = kernel, names, kept
        self.domain = domain
        self.strides = self._accesses()
        self.sizes, collapsed = _collapse(domain, list(self.strides.values()))
        self.strides = dict(zip(self.strides, collapsed, strict=True))

    def _accesses(self) -> dict[Any, tuple[int, ...]]:
        """Everything that is read or written, and how far apart its elements are along each loop."""
        found: dict[Any, tuple[int, ...]] = {}
        for value in self.kernel.values:
            if isinstance(value, Reduction):
                (operand,) = value.operands
                assert isinstance(operand, View)
                own = iter(View.whole(value).strides)
                each = [0 if d in value.dims else next(own) for d in range(len(operand.shape))]
                found[value] = tuple(s for s, n in zip(each, operand.shape, strict=True) if n != 1)
            else:
                found[value] = _squeezed(View.whole(value))
            if isinstance(value, Gather):  # keeps all loops apart
                found[value, "loops"] = tuple(10**9 + 7 * d for d in range(len(self.domain)))
            for view in self._read(value):
                found[view] = _squeezed(view)
        return found

    def _read(self, value: Value) -> list[View]:
        views = [o for o in value.operands if isinstance(o, View)]
        return views[1:] if isinstance(value, Gather) else views

    def text(self) -> str:
        bodies: list[list[str]] = [[] for _ in range(len(self.sizes) + 1)]  # before the loop at each depth
        ends: list[list[str]] = [[] for _ in range(len(self.sizes) + 1)]  # after it
        inner: list[str] = []
        stores: list[str] = []
        clauses: list[str] = []
        depth = len(self.sizes)
        numbers: dict[Value, str] = {}
        for i, value in enumerate(self.kernel.values):
            t = TYPES[value.dtype]
            if isinstance(value, Reduction):
                (operand,) = value.operands
                x = self._load(operand, value.dtype, numbers)
                strides = self.strides[value]
                tail = next((d for d in range(depth, 0, -1) if strides[d - 1] != 0), 0)  # loops from here on are summed
                if any(s == 0 for s in strides[:tail]):  # no: some loop outside of a kept one is summed
                    start = _identity(value.kind, value.dtype)
                    bodies[0].append(f"for (long r = 0; r < {value.size}; r++) {self.names[value]}[r] = {start};")
                    inner.append(COMBINE[value.kind].format(a=f"{self.names[value]}[{_index(0, strides)}]", x=x) + ";")
                    continue
                # One total, or one for each of several nested loops, so that long sums lose fewer digits.
                levels = range(tail, max(tail + 1, depth))
                for level in levels:
                    bodies[level].append(f"{t} s{i}_{level} = {_identity(value.kind, value.dtype)};")
                inner.append(COMBINE[value.kind].format(a=f"s{i}_{levels[-1]}", x=x) + ";")
                for level in reversed(levels[1:]):
                    ends[level].append(COMBINE[value.kind].format(a=f"s{i}_{level - 1}", x=f"s{i}_{level}") + ";")
                ends[tail].append(f"{self.names[value]}[{_index(0, strides[:tail])}] = s{i}_{tail};")
                if depth and levels[-1] == depth - 1 and value.kind not in EXTREMES:
                    clauses.append(f"reduction({OPERATOR[value.kind]}:s{i}_{depth - 1})")
                continue
            inner.append(f"const {t} x{i} = {self._expression(value, numbers)};")
            numbers[value] = f"x{i}"
            if value in self.kept:
                stores.append(f"{self.names[value]}[{_index(0, self.strides[value])}] = x{i};")
        inner += stores  # last: some take the place of what was read
        return self._nest(bodies, ends, inner, clauses)

    def _nest(self, bodies: list[list[str]], ends: list[list[str]], inner: list[str], clauses: list[str]) -> str:
        lines, depth = [], len(self.sizes)
        if not depth:
            return "\n".join("  " + line for line in [*bodies[0], *inner, *ends[0]])
        reductions = [v for v in self.kernel.values if isinstance(v, Reduction)]
        # Where lanes or threads are combined by OpenMP, a NaN that one of them met is lost from a maximum; and more than two
        # threads add their sums up in no fixed order.
        extremes = [v for v in reductions if v.kind in EXTREMES]
        totals = [v for v in reductions if v.dtype.is_floating_point and not any(self.strides[v])]
        threads = math.prod(self.sizes) >= LARGE and all(map(splits, reductions)) and not totals
        for level, size in enumerate(self.sizes):
            lines += bodies[level]
            pragma = []
            if threads and level == 0:
                outer = [
                    f"reduction({OPERATOR[v.kind]}:s{i}_0)"
                    for i, v in enumerate(self.kernel.values)
                    if isinstance(v, Reduction) and not any(self.strides[v])
                ]
                pragma = [
                    "parallel for",
                    *(["simd"] if depth == 1 and not extremes else []),
                    *(clauses if depth == 1 else outer),
                ]
            elif level == depth - 1 and not extremes:
                pragma = ["simd", *clauses]
            if pragma:
                lines.append("#pragma omp " + " ".join(pragma))
            lines.append(f"for (long i{level} = 0; i{level} < {size}; i{level}++) {{")
        lines += bodies[depth] + inner + ends[depth]
        for level in reversed(range(depth)):
            lines += ["}", *ends[level]]
        return "\n".join("  " + line for line in lines)

    def _expression(self, value: Value, numbers: dict[Value, str]) -> str:
        if isinstance(value, Counter):
            at = _index(0, self.strides[value])
            start, step = (literal(n, value.dtype) for n in (value.start, value.step))
            return f"{start} + {step} * ({TYPES[value.dtype]})({at})"
        if isinstance(value, Gather):
            base, *rest = value.operands
            assert isinstance(base, View)
            loops = _loops(value.shape)
            where = _indexed(value, base, rest, self.names, loops, numbers, self)
            return f"{self.names[base.value]}[{where}]"
        assert isinstance(value, Pointwise)
        operands = [self._load(o, t, numbers) for o, t in zip(value.operands, value.types, strict=True)]
        suffix = "f" if value.types[0] == torch.float32 else ""
        return value.template.format(*operands, f=suffix)

    def _load(self, operand: Any, dtype: torch.dtype, numbers: dict[Value, str]) -> str:
        """An operand's element, cast."""
        if not isinstance(operand, View):
            return literal(operand, dtype)
        if operand.value in numbers and same_place(operand, self.domain):
            text = numbers[operand.value]
        else:
            text = f"{self.names[operand.value]}[{_index(operand.offset, self.strides[operand])}]"
        if operand.value.dtype == dtype:
            return text
        if dtype == torch.bool:
            return f"({text} != 0)"
        return f"(({TYPES[dtype]}){text})"


def _identity(kind: str, dtype: torch.dtype) -> str:
    """What changes nothing when it is combined with."""
    if kind not in EXTREMES:
        return literal(IDENTITY[kind], dtype)
    least = kind == "amax"
    if dtype.is_floating_point:
        return literal(-math.inf if least else math.inf, dtype)
    if dtype == torch.bool:
        return "0" if least else "1"
    limits = torch.iinfo(dtype)
    # The least int64 has no literal of its own.
    return f"({limits.min + 1} - 1)" if least else f"({limits.max})"


def _squeezed(view: View) -> tuple[int, ...]:
    return tuple(s for s, n in zip(view.strides, view.shape, strict=True) if n != 1)


def _collapse(sizes: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Loops that all accesses run through as through one are made one."""
    out_sizes: list[int] = []
    out: list[list[int]] = [[] for _ in strides]
    for d, size in enumerate(sizes):
        if out_sizes and all(o[-1] == s[d] * size for o, s in zip(out, strides, strict=True)):
            out_sizes[-1] *= size
            for o, s in zip(out, strides, strict=True):
                o[-1] = s[d]
        else:
            out_sizes.append(size)
            for o, s in zip(out, strides, strict=True):
                o.append(s[d])
    return tuple(out_sizes), [tuple(o) for o in out]


def _index(offset: int, strides: tuple[int, ...]) -> str:
    terms = [f"i{d}" if s == 1 else f"{s} * i{d}" for d, s in enumerate(strides) if s]
    return " + ".join([*([str(offset)] if offset or not terms else []), *terms])


def _nest(sizes: tuple[int, ...], body: str) -> str:
    loops = "".join(f"  for (long i{d} = 0; i{d} < {n}; i{d}++)\n" for d, n in enumerate(sizes))
    return f"{loops}    {body}"


def _loops(shape: tuple[int, ...]) -> list[str]:
    """The loop variable of each dimension of an array that is looped over without its dimensions of size 1."""
    names, count = [], 0
    for n in shape:
        names.append("0" if n == 1 else f"i{count}")
        count += n != 1
    return names


def _indexed(value: Gather | Scatter, base: View, indices: list[Any], names: dict[Value, str],
             loops: list[str] | None = None, numbers: Any = None, nest: Loops | None = None) -> str:  # fmt: skip
    """Where in `base` the element lies that the loops are at."""
    free = iter(value.loops)
    terms = [str(base.offset)]
    for which, stride, size in zip(value.places, _real_strides(base), base.shape, strict=True):
        if which is None:
            at = next(free)
            terms.append(f"{stride} * {loops[at] if loops else f'i{at}'}")
        else:
            view = indices[which]
            if nest is not None:
                text = nest._load(view, torch.int64, numbers)
            else:
                text = f"{names[view.value]}[{_index(view.offset, view.strides)}]"
            terms.append(f"{stride} * place({text}, {size})")
    return " + ".join(terms)


def _real_strides(view: View) -> tuple[int, ...]:
    return tuple(view.meta.stride())


def _blas(rows: int, columns: int, row: int, column: int) -> tuple[str, int] | None:
    """BLAS's words for a matrix with these strides: not transposed or so, and how far apart its rows are."""
    if column == 1 or columns == 1:
        if row >= columns:
            return "N", row
    if row == 1 or rows == 1:
        if column >= rows:
            return "T", column
    return None


def _kept(kernels: list[Kernel], outputs: Iterable[Value]) -> set[Value]:
    """Values that must be stored: those read by another kernel, or elsewhere than where they are made."""
    kept = set(outputs)
    for kernel in kernels:
        inside = set(kernel.values)
        for value in kernel.values:
            if isinstance(value, Reduction) or kernel.domain is None:
                kept.add(value)
            for operand in value.operands:
                if isinstance(operand, View) and not (
                    operand.value in inside and kernel.domain is not None and same_place(operand, kernel.domain)
                ):
                    kept.add(operand.value)
    return kept


def _safe(after: Value, before: Value, kernels: list[Kernel]) -> bool:
    """Whether a value can be written where the other one is: nobody reads that any more."""
    making = next(number for number, kernel in enumerate(kernels) if after in kernel.values)
    if not isinstance(after, Pointwise):
        return False
    for number, kernel in enumerate(kernels[making:], start=making):
        for value in kernel.values:
            for operand in value.operands:
                if not isinstance(operand, View) or operand.value is not before:
                    continue
                here = number == making and isinstance(value, (Pointwise, Reduction)) and kernel.domain is not None
                if not here or not (operand.is_whole and _real(operand.shape) == _real(after.shape) == kernel.domain):
                    return False
    return True


def _real(shape: tuple[int, ...]) -> Domain:
    return tuple(n for n in shape if n != 1)


def _memory(kernels: list[Kernel], wanted: set[Value], to_the_end: Iterable[Value]) -> tuple[dict[Value, int], int]:
    """Where each value lies in working memory; the place of one that is read no more is used again."""
    last = dict.fromkeys(to_the_end, len(kernels))
    for number, kernel in enumerate(kernels):
        for value in kernel.values:
            last[value] = max(last.get(value, 0), number)
            for source in value.sources:
                last[source] = max(last.get(source, 0), number)
    spots: dict[Value, int] = {}
    free: dict[int, list[int]] = {}
    top = 0
    for number, kernel in enumerate(kernels):
        for value in kernel.values:
            if value in wanted:
                size = -(-max(1, value.size) * value.dtype.itemsize // 64) * 64
                if free.get(size):
                    spots[value] = free[size].pop()
                else:
                    spots[value], top = top, top + size
        for value, when in list(last.items()):
            if when == number and value in spots:
                free.setdefault(-(-max(1, value.size) * value.dtype.itemsize // 64) * 64, []).append(spots[value])
    return spots, top
