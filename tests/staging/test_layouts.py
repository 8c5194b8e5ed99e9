"""Operations that see memory as it lies, by a compiler that has its own idea of where that is."""

from __future__ import annotations

import torch

from vbayes.staging.layouts import SEES, in_order
from vbayes.staging.machine_code import compile_native, simplified


def gradient(x):
    """Of a tensor whose memory is not in order, a part of which was written to."""
    x = x.detach().requires_grad_()
    y = 3.0 * x.t()
    y[1, :2] = x[:2, 0] ** 2
    return [*torch.autograd.grad((y * torch.arange(12.0).view(3, 4)).sum(), x)]


def test_the_gradient_of_a_part_that_was_written_to():
    x = torch.arange(12.0).view(4, 3)
    graph = simplified(gradient, [x])
    seen = [node for node in graph.graph.nodes if node.target in SEES]
    assert {node.target for node in seen} == set(SEES)
    assert all(node.args[0].meta["val"].is_contiguous() for node in seen)
    right = gradient(x)
    for made in (graph(x), compile_native(gradient, [x])(x)):
        torch.testing.assert_close(list(made), right)
    count = len(graph.graph.nodes)
    assert len(in_order(graph).graph.nodes) == count
