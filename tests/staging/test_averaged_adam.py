"""Adam that keeps the mean of its iterates."""

from __future__ import annotations

import torch

from vbayes.staging.averaged_adam import AveragedAdam


def start() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)


def iterates(make, steps=30):
    leaves = [value.clone().requires_grad_() for value in start()]
    optimizer = make(leaves)
    found = []
    for step in range(steps):
        for leaf in leaves:
            leaf.grad = torch.cos(3 * leaf.detach() + step)
        optimizer.step()
        found.append([leaf.detach().clone() for leaf in leaves])
    return found, optimizer, leaves


def test_its_steps_are_adams_and_its_mean_is_the_mean():
    theirs, _, _ = iterates(lambda leaves: torch.optim.Adam(leaves, lr=0.1, betas=(0.8, 0.95)))
    ours, optimizer, leaves = iterates(lambda leaves: AveragedAdam(leaves, lr=0.1, betas=(0.8, 0.95)))
    for number, leaf in enumerate(leaves):
        torch.testing.assert_close(ours[-1][number], theirs[-1][number], rtol=1e-12, atol=0)
        mean = torch.stack([each[number] for each in ours]).mean(0)
        torch.testing.assert_close(optimizer.state[leaf]["mean"], mean, rtol=1e-12, atol=0)


def test_a_mean_begins_where_one_says_so():
    _, optimizer, (leaf, _) = iterates(lambda leaves: AveragedAdam(leaves, lr=0.1))
    before = optimizer.state[leaf]["exp_avg_sq"].clone()
    optimizer.begin_mean()
    assert torch.equal(optimizer.state[leaf]["exp_avg_sq"], before)
    optimizer.step()
    assert torch.equal(optimizer.state[leaf]["mean"], leaf.detach())


def test_a_huge_gradient_is_forgotten_at_the_next_rate():
    """Adam's mean of squares remembers it for ten thousands of steps, in which it hardly moves."""
    leaf = torch.zeros(1, requires_grad=True)
    optimizer = AveragedAdam([leaf], lr=0.1)

    def step(gradient: float) -> float:
        before, leaf.grad = leaf.item(), torch.tensor([gradient])
        optimizer.step()
        return abs(leaf.item() - before)

    step(1e9)
    assert [step(1.0) for _ in range(200)][-1] < 1e-4
    optimizer.begin(0.02)
    assert abs(step(1.0) - 0.02) < 1e-6
