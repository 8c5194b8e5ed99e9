"""In library code each tensor that is made says where: an attribute of a tensor at hand, `device=`, or "cpu" in so many words."""

import ast
from pathlib import Path

import pytest

import vbayes

ROOT = Path(vbayes.__file__).parent
MAKERS = {
    "arange", "empty", "eye", "from_numpy", "full", "linspace", "logspace", "ones", "rand", "randint", "randn", "randperm", "scalar_tensor", "tensor", "tril_indices",
    "triu_indices", "zeros", "Generator",
}  # fmt: skip

ALLOWED = {
    "data": "data sets are made on the CPU, as files are read there; `Dataset.to` moves them",
    "staging/native": "the compiler to C, whose tensors are all on the CPU",
    "staging/capture.py": "the type of a pair without any parameters",
    "staging/vectorise.py": "the type of a pair without any parameters",
    "staging/replicate.py": "tried where there is machine code, on the CPU",
    "training/fed.py": "numbers of no dimension, which any device takes",
    "training/checkpoint.py": "what a file holds",
    "drawing/sobol.py": "a table of NumPy's, moved by the one that asks for it",
    "pairs/hmm.py": "a start, the same on every device; `_Generative` and `hmm` move it",
    "pairs/autoencoder.py": "a start, the same on every device; the pairs move it",
    "pairs/linear_gaussian.py": "the start of a module, which moves as a parameter",
    "pairs/tractable.py": "data",
}  # fmt: skip


def bare(source: str) -> list[str]:
    """Calls that make a tensor without saying where, and arrays made of tensors that may be on a device."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = node.func.value, node.func.attr
        said = any(keyword.arg in ("device", "out", None) for keyword in node.keywords)
        if isinstance(owner, ast.Name) and owner.id == "torch" and name in MAKERS and not said:
            if not (name == "Generator" and node.args):
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        if name == "numpy" and not node.args and not ast.unparse(owner).endswith(".cpu()"):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def reason(path: Path) -> str | None:
    place = path.relative_to(ROOT).as_posix()
    return next((why for start, why in ALLOWED.items() if place == start or place.startswith(start + "/")), None)


def test_each_tensor_that_is_made_says_where():
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(ROOT.rglob("*.py"))
        if reason(path) is None
        for line in bare(path.read_text())
    }
    assert not found, "make it like a tensor at hand, or say device=: " + "; ".join(sorted(found))


def test_no_reason_is_given_for_nothing():
    idle = {
        start: why
        for start, why in ALLOWED.items()
        if not any(bare(p.read_text()) for p in [*(ROOT / start).rglob("*.py"), ROOT / start] if p.suffix == ".py")
    }
    assert not idle


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("torch.zeros(3)", 1),
        ("torch.zeros(3, device=x.device)", 0),
        ("torch.arange(5).cumsum(0)", 1),
        ("x.new_zeros(3)", 0),
        ("torch.zeros_like(x)", 0),
        ("torch.Generator().manual_seed(0)", 1),
        ("torch.Generator('cpu')", 0),
        ("x.detach().numpy()", 1),
        ("x.detach().cpu().numpy()", 0),
        ("torch.full((2,), 1.0, **like)", 0),
    ],
)
def test_what_it_finds(line, count):
    assert len(bare(line)) == count
