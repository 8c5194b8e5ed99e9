"""Calls that are right, and calls that are wrong: what a type checker is to say of each line. Nobody runs this."""

from __future__ import annotations

from typing import assert_type

import torch

import vbayes as vb

pair, x = vb.pairs.normal_normal(), torch.zeros(2)


def model(x: torch.Tensor) -> None: ...


def stop(state: vb.TrainingState) -> bool:
    table = state.history
    print(table.elbo.mean(), state.new_rows.elbo.mean(), state.parameters["loc"], state.restart)
    assert_type(state.fit, vb.Fit)
    return state.elbo > -1.0


# ---- fits

fit = vb.fit(pair, x, steps=10)
several = vb.fit(pair, x, steps=10, restarts=3)
assert_type(fit, vb.Fit)
assert_type(several, vb.Restarts)
assert_type(several.best, vb.Fit)
assert_type(vb.fit(pair, x, "stl", epochs=2, batch_size=1, learning_rate=1e-2, seed=0, restarts=None), vb.Fit)
assert_type(vb.fit(pair, x, vb.IWAE(8), max_seconds=10, callbacks=[stop, vb.Every(stop, epochs=1), print]), vb.Fit)
vb.fit(pair, x, steps=10, optimizer=torch.optim.SGD, compile=False, checkpoint="a.safetensors", every="5min")
vb.fit(pair, x, steps=10, compile="native", update=vb.NaturalGradient(), average=True, device="cpu", progress=False)
vb.fit(lambda x: None, x, guide="full", validation=x, max_steps=100)

vb.fit(pair, x, step=10)  # wrong
vb.fit(pair, x, steps="10")  # wrong
vb.fit(pair, x, steps=10, batchsize=4)  # wrong
vb.fit(pair, x, restarts=3, step=10)  # wrong
vb.fit(pair, x, compile="numba")  # wrong
vb.fit(pair, x, binarize="round")  # wrong
vb.fit(pair, x, callbacks=stop)  # wrong
vb.fit(pair, x, callbacks=[lambda: None])  # wrong
vb.fit(pair, x, learning_rate="1e-3")  # wrong
vb.fit(pair, x, 3)  # wrong
vb.fit()  # wrong
one: vb.Fit = vb.fit(pair, x, restarts=2)  # wrong
some: vb.Restarts = vb.fit(pair, x)  # wrong

# ---- what a fit can do

assert_type(fit.resume(steps=10, callbacks=[stop]), vb.Fit)
assert_type(fit.steps, int)
assert_type(fit.diagnose(draws=100, seed=0), vb.Diagnosis)
assert_type(fit.posterior(x, 100, "psis", proposals=1000, seed=0), vb.Posterior)
assert_type(fit.linear_response(draws=64), vb.LinearResponse)
assert_type(fit.predict(x, draws=10), vb.Prediction)
assert_type(fit.diagnosis, vb.Diagnosis | None)
assert_type(fit.bound, str)
fit.to_arviz(draws=100, prior=False)
several.to_arviz(draws=100, resample=True)
fit.save("fit.safetensors")
vb.Fit.load("fit.safetensors", pair, x, device="cpu")

print(fit.diagnose().k_hats)  # wrong
print(fit.posterior().draw)  # wrong
fit.resume(10)  # wrong
fit.resume(step=10)  # wrong
fit.diagnose(draw=100)  # wrong
fit.posterior(particles=100)  # wrong
fit.linear_response(device=3)  # wrong
fit.to_arviz(chains=4)  # wrong
several.to_arviz(samples=100)  # wrong
vb.Every(stop, epochs="1")  # wrong
vb.Every(stop, seconds=1)  # wrong

# ---- other verbs

assert_type(vb.compare(pair, x, ["stl", vb.IWAE(8)], replicas=100), vb.Comparison)
assert_type(vb.race(pair, x, ["stl", "pathwise"], steps=100), vb.Race)
assert_type(vb.log_evidence(fit, method="iw", num_particles=100), vb.Evidence)
assert_type(vb.compare_models({"a": fit, "b": pair}, x, method="iw", num_particles=100), vb.ModelComparison)
assert_type(vb.diagnose(fit), vb.Diagnosis)
assert_type(vb.posterior(fit, draws=100), vb.Posterior)
assert_type(vb.check(model, x, show=False), vb.Check)
assert_type(vb.posterior(model, x), vb.Posterior)
assert_type(vb.diagnose(model, x), vb.Diagnosis)
assert_type(vb.compare(model, x, ["stl"]), vb.Comparison)
assert_type(vb.Fit.load("fit.safetensors", model, x), vb.Fit)
vb.compare_models({"a": model, "b": pair}, x)
vb.posterior(3, x)  # wrong

vb.compare(pair, x, ["stl"], replica=100)  # wrong
vb.race(pair, x, ["stl"], step=100)  # wrong
vb.log_evidence(fit, method="nuts")  # wrong
vb.compare_models({"a": fit}, x, particles=100)  # wrong
vb.recommend(pair, x, budgets=3)  # wrong

# ---- estimators

assert_type(vb.IWAE(num_particles=8), vb.IWAE)
vb.IWAE(particles=8)  # wrong
vb.STL(num_particles="8")  # wrong
