"""Fits that move, what is promised of resuming, and what is said of constants that stay behind."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.devices.stand_in import on_cuda, stand_in
from tests.models import binary, small_vae
from vbayes.pair.problem import Problem

quick = {"progress": False}
ELSEWHERE = torch.zeros(3)


@pytest.fixture(autouse=True)
def card(request):
    with on_cuda(request.config.getoption("--device")):
        yield


def same(one, other):
    mine, theirs = one.parameters, other.parameters
    return all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_fit_moves_and_goes_on_there(tmp_path):
    fit = vb.fit(small_vae(), binary(), steps=3, device="cuda", **quick)
    moved = fit.to("cpu")
    assert moved.pair.device == moved.data.first.device == torch.device("cpu") and fit.pair.device.type == "cuda"
    assert same(moved, fit) and moved.resume(steps=2, **quick).pair.device.type == "cpu"
    again = moved.to("cuda").resume(steps=1, **quick)
    assert again.pair.device.type == "cuda" and again.steps == 4
    path = fit.save(tmp_path / "fit.safetensors")
    loaded = vb.Fit.load(path, small_vae(), binary(), device="cpu")
    assert loaded.pair.device.type == "cpu" and same(loaded, fit)
    assert vb.Fit.load(path, small_vae(), binary(), device="cuda").pair.device.type == "cuda"
    assert vb.Fit.load(path, small_vae(), binary()).pair.device.type == "cuda"  # "auto", where there is a card
    with pytest.raises(vb.errors.BadInput, match="device='tpu' is not available"):
        fit.to("tpu")


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_the_order_and_noise_of_a_fit_do_not_depend_on_where_it_was_cut(compile, batch_size):
    """So resuming gives the same numbers, but for the order in which some kernels add."""
    how = {"device": "cuda", "compile": compile, "batch_size": batch_size, "seed": 3, **quick}
    whole = vb.fit(small_vae(), binary(), steps=7, **how)
    cut = vb.fit(small_vae(), binary(), steps=4, **how).resume(steps=3, **quick)
    assert cut.history.elbo.tolist() == pytest.approx(whole.history.elbo.tolist(), rel=1e-5)
    for name, value in whole.parameters.items():
        torch.testing.assert_close(cut.parameters[name], value, rtol=1e-4, atol=1e-6)


def test_what_was_trained_stays_where_it_is():
    fit = vb.fit(small_vae(), binary(), steps=1, device="cpu", **quick)
    assert Problem.of(fit, binary(), device="auto").device.type == "cpu"
    assert Problem.of(fit.pair, binary(), device="auto").device.type == "cuda"  # a pair as such goes where it is quick
    assert Problem.of(fit, binary(), device="cuda").device.type == "cuda"


def plain(constant, inside):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
            pyro.sample("x", dist.Normal(z + constant(x), 1.0).to_event(1), obs=x)

    def guide(x):
        where = pyro.param("where", torch.zeros(3))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(where, 1.0).to_event(1))

    return vb.Pair(model, guide, name="plain")


@pytest.mark.parametrize("compile", [False, True])
def test_constants_made_in_a_model_are_made_on_its_device(compile):
    """As `Normal(0.0, 1.0)` makes them, and `torch.zeros(3)` in a line of one's own."""
    fit = vb.fit(
        plain(lambda x: torch.ones(3), True), torch.ones(4, 3), steps=2, device="cuda", compile=compile, **quick
    )
    assert fit.pair.device.type == "cuda"


def test_a_constant_that_stays_behind_is_named_with_its_line():
    pair = plain(lambda x: ELSEWHERE, False)
    with pytest.raises(vb.errors.BadInput) as caught:
        vb.fit(pair, torch.ones(4, 3), steps=2, device="cuda", **quick)
    said = str(caught.value)
    assert (
        "Pair 'plain' is on cuda:0" in said
        and 'of test_moving.py: `pyro.sample("x", dist.Normal(z + constant(x)' in said
    )
    assert "x.new_tensor(2.0)" in said and "device='cpu'" in said


def test_a_constant_in_an_estimator_too():
    class Odd(vb.Trace):
        def total(self, particles):
            estimate = super().total(particles)
            return type(estimate)(estimate.value + ELSEWHERE.dot(particles.log_p.reshape(-1)[:3]), estimate.surrogate)

    with pytest.raises(vb.errors.VBayesError, match=r"line \d+ of test_moving.py"):
        vb.fit(small_vae(), binary(), Odd(), steps=2, device="cuda", compile=False, **quick)


def test_a_constant_of_an_estimator_without_dimensions_is_recorded():
    class Doubled(vb.Trace):
        def total(self, particles):
            estimate, two = super().total(particles), torch.tensor(2.0)
            return type(estimate)(estimate.value * two / two, estimate.surrogate * two)

    fit = vb.fit(small_vae(), binary(), Doubled(), steps=3, device="cuda", compile=True, **quick)
    assert fit.steps == 3


def test_starts_are_the_same_on_every_device():
    fits = [vb.fit(small_vae(), binary(), steps=0, restarts=3, device=where, **quick).fits for where in ("cpu", "cuda")]
    for one, other in zip(*fits, strict=True):
        assert same(one, other)


def test_the_stand_in_is_as_strict_as_a_card(request):
    if request.config.getoption("--device") == "cuda":
        pytest.skip("here is a card")
    with stand_in():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert (
            there.device == (there * 2)[1:].new_zeros(2).device == torch.device("cuda", 0) and here.device.type == "cpu"
        )
        assert (there + here[0]).device.type == "cuda" and there[torch.tensor([0])].device.type == "cuda"
        for mixed in (lambda: here + there, lambda: torch.stack([here[0], there[0]]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match="on the same device"):
                mixed()
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.randn(3, device="cuda", generator=torch.Generator())
        live = there.clone().requires_grad_()
        (live * live).sum().backward()
        assert live.grad.device.type == "cuda"


def test_a_constant_that_only_a_density_meets_is_named_by_its_site():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(ELSEWHERE, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("where", torch.zeros(3)), 1.0).to_event(1))

    with pytest.raises(vb.errors.BadInput, match="the Independent of site 'z', or its mask, uses a tensor that is not"):
        vb.fit(vb.Pair(model, guide), torch.ones(4, 3), steps=2, device="cuda", **quick)


def test_rows_that_a_dataset_makes_on_the_card():
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return torch.full((3,), float(index), device="cuda")

    for rows in (Rows(), torch.utils.data.DataLoader(Rows(), batch_size=2)):
        assert vb.Dataset.of(rows).rows(slice(3, 5)).first.cpu().tolist() == [[3.0] * 3, [4.0] * 3]
