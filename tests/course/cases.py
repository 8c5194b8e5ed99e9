"""Of each experiment of the course: a small setting in which its verdict holds, and sabotages under which it must not."""

from __future__ import annotations

from dataclasses import replace

import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from tests.course.changes import (
    ANALYTIC_KL,
    BOUND,
    CHAINS,
    LAPLACE,
    MANY_ROWS,
    QUICKER,
    SPACE,
    STL,
    UNTAUGHT,
    alike,
    as_with_one,
    by_weights,
    crossing,
    entropy_taken_off,
    few_starts,
    first,
    hastening,
    in_one_maximum,
    in_sums,
    narrow,
    no_threshold,
    normal_prior,
    not_shrunk,
    of_first_rows,
    of_the_noise,
    only,
    other_way,
    parts,
    shuffled,
    signs,
    with_,
)
from tests.course.sabotage import Case, Sabotage, always, climbs, instead, makes
from vbayes.exact.table import Table

# fmt: off
CASES: dict[str, Case] = {
    "01_mse_is_gaussian_likelihood": Case(
        {"pairs": ["linear"], "scales": [0.3], "steps": 600, "looks": 2},
        {
            "a Laplace for the Gaussian": Sabotage("the likelihood is on a line", (LAPLACE,), trains=True),
            "a tenth of the rows": Sabotage("end at PCA", ((ANALYTIC_KL, climbs(of_first_rows)),), trains=True),
        },
        smaller=(first(300), with_("fit", compile=True)),
    ),
    "02_pca_is_a_linear_autoencoder": Case(
        {"hidden": [2, 64], "seeds": 1, "steps": 500},
        {
            "a Laplace for the Gaussian": Sabotage("W spans the principal directions", (LAPLACE,), trains=True),
            "nothing is learnt": Sabotage("b is the mean", (UNTAUGHT,), trains=True),
        },
        smaller=(first(200), with_("fit", compile=True)),
    ),
    "03_bottleneck_beats_pca": Case(
        {"hidden": [2], "splits": 1, "epochs": 20},
        {
            "networks that do not bend": Sabotage("better than PCA", (("vbayes.pairs.bottleneck_autoencoder:nn", instead(Tanh=nn.Identity)),), trains=True, answer=("Fails here (", "Can't tell (")),
            "nothing is learnt": Sabotage("better than PCA", (UNTAUGHT,), trains=True),
        },
    ),
    "03_sparse_codes": Case(
        {"penalties": [0.1, 0.3], "hidden": 64, "epochs": 12},
        {
            "a normal prior": Sabotage("the ELBO is log p(x, h)", (("vbayes.pairs.sparse_autoencoder:dist", normal_prior),), trains=True),
            "codes that do not shrink": Sabotage("most of h is zero", (("vbayes.pairs.sparse_autoencoder:pyro", no_threshold),), trains=True),
        },
        smaller=((":HELD_OUT", always(100)), first(500), QUICKER),
    ),
    "03_the_prior_is_a_constraint": Case(
        {"betas": [0.0, 1.0], "warm_up": 20, "latent": 10, "hidden": 64, "epochs": 32},
        {
            "β is not heard": Sabotage("without it a digit is rebuilt best", (("vbayes:fit", as_with_one),), answer="Can't tell ("),
            "a history of sums over minibatches": Sabotage("the history reports the ELBO", (("vbayes.training.result:Fit.history", in_sums),)),
        },
        smaller=(parts(800, 100), QUICKER),
    ),
    "04_evidence_bounds": Case(
        {"particles": [1, 20], "repeats": 6, "chains": 2, "temperatures": 1, "sets": 4},
        {
            "the mean of log w": Sabotage("rises with K", ((BOUND, always(lambda self: self.elbo())),)),
            "the sum of w": Sabotage("K particles stay below", ((BOUND, always(lambda self: (self.log_sum, self.elbo()[1]))),)),
            "back for there": Sabotage("annealing back stays above", (("vbayes.inference.evidence:_between", other_way),)),
        },
        smaller=((":TRACTABLE", always({"normal_normal": MANY_ROWS})),),
    ),
    "04_recognition_at_work": Case(
        {"latents": [1, 5], "epochs": 8, "of_a_class": 40, "hidden": 32},
        {
            "the evidence's sign": Sabotage("classes are told apart", ((BOUND, makes(lambda found: (-found[0], found[1]))),)),
            "pixels drawn each from another z": Sabotage("(numbers of latents are told apart by what they draw)", ((f"{SPACE}.sample", makes(shuffled)),), answer=("Fails here ", "Can't tell ")),
            "filled in white for black": Sabotage("what is missing is filled in", (("vbayes.inference.impute:_mean", makes(lambda mean: 1 - mean)),)),
            "cleaned white for black": Sabotage("not: noise is taken off", ((f"{SPACE}.decode", makes(lambda mean: 1 - mean)),), answer="Holds within bounds ("),
        },
        smaller=(parts(1197, 300), QUICKER, with_("impute", draws=20, burn_in=10), with_("compare_models", num_particles=20)),
    ),
    "05_three_problems_on_an_hmm": Case(
        {"training": 20, "held_out": 200, "steps": 30, "stays": [0.9], "repeats": 3, "rows": 20, "ascent": 300},
        {
            "a forward recursion without memory": Sabotage("it segments best", ((f"{CHAINS}.messages:forward", always(lambda start, move, seen, lengths=None: seen)),)),
            "no message from what comes": Sabotage("it segments best", ((f"{CHAINS}.messages:backward", makes(torch.zeros_like)),)),
            "EM that leaves the moves": Sabotage("gradient ascent ends where EM does", ((f"{CHAINS}.em:shares", always(lambda counts, before: before)),)),
        },
        smaller=(("vbayes:baum_welch", few_starts),),
    ),
    "07_evidence_splits_into_elbo_and_kl": Case(
        {"marks": [0]},
        {
            "the entropy's sign": Sabotage("log p(x) = ELBO + KL", (("vbayes.exact.normal_normal:elbo", entropy_taken_off),)),
            "the KL the other way round": Sabotage("log p(x) = ELBO + KL", (("vbayes.exact.table:Table.kl", always(Table.forward_kl)),)),
            "no number": Sabotage("log p(x) = ELBO + KL", (("vbayes.exact.table:Table.elbo", makes(lambda elbo: elbo / 0 * 0)),)),
        },
        smaller=(only("normal_normal", "linear_gaussian", "bernoulli_toy", "three_bernoulli"),),
    ),
    "08_linear_vae_reaches_the_evidence": Case(
        {"latent": 1, "steps": 150, "looks": 2, "seeds": 1},
        {
            "the entropy's sign": Sabotage("the gap closes", ((STL, climbs(lambda e, p: (p.log_p + (p.log_q - p.log_q_fixed)).mean(0))),), trains=True),
            "the KL's sign": Sabotage("log p(x) = ELBO + KL", (("vbayes.exact.linear_gaussian:kl_divergence", makes(lambda kl: -kl)),)),
            "PCA with twice the noise": Sabotage("it is not passed", ((":maximum_likelihood", makes(lambda best: replace(best, noise=2 * best.noise))),)),
        },
        smaller=((":RATES", always((0.05, 0.01))), first(200)),
    ),
    "09_factoring_underestimates": Case(
        {"correlations": [0.5, 0.8], "steps": 120},
        {
            "coordinate ascent that does not shrink": Sabotage("coordinate ascent finds the variance on paper", (("vbayes.exact.conjugate.gaussian:mean_field", not_shrunk),)),
            "nothing is learnt": Sabotage("gradients find it", (UNTAUGHT,), trains=True),
            "half of the KL": Sabotage("missed by more than ln 2", (("vbayes.exact.table:Table.kl", makes(lambda kl: kl / 2)),)),
            "twice the KL": Sabotage("gradients find the best Gaussian", (("vbayes.exact.table:Table.kl", makes(lambda kl: 2 * kl)),)),
        },
        smaller=(("vbayes:STL", lambda stl: lambda count, noise: stl(4)), ("vbayes:Pathwise", lambda pathwise: lambda count: pathwise(4)), with_("fit", learning_rate=0.02)),
    ),
    "10_sampling_fails_on_multimodal_q": Case(
        {"maxima": [1, 2], "barriers": [0.5, 32.0], "draws": [10, 300], "repeats": 300, "chains": 100},
        {
            "chains that cross": Sabotage("a chain is stuck", ((":by_chains", crossing),)),
            "chains that hardly move": Sabotage("with one maximum it is not", ((":STEP", always(1e-4)),)),
            "draws of one maximum": Sabotage("", ((":torch", in_one_maximum),), answer="Holds"),
        },
    ),
    "11_reparameterised_by_any_function": Case(
        {"steps": 800, "draws": 500},
        {
            "nothing is learnt": Sabotage("a flow leaves less than half of the best Gaussian's KL; a path from a uniform", (UNTAUGHT,), trains=True),
            "a density without the volume of g": Sabotage("no KL is below 0", (("vbayes.drawing.draw:FIELDS", of_the_noise),)),
        },
        smaller=((":LAYERS", always(3)), with_("fit", learning_rate=0.02, compile=True)),
    ),
    "12_reparameterisation_needs_few_samples": Case(
        {"dimensions": [10], "per_dimension": [5], "repeats": 3000},
        {
            "draws that are alike": Sabotage("five draws a dimension", ((":BASES", alike),)),
            "draws of half their width": Sabotage("five draws a dimension", ((":BASES", narrow),)),
            "draws of 1 and −1": Sabotage("(Σ z² errs by sd/√L)", ((":BASES", signs),)),
        },
        smaller=((":TRUTH", always(20_000)),),
    ),
    "13_one_sample_per_token_is_enough": Case(
        {"draws": [1, 2], "batch_sizes": [100], "epochs": 4, "hidden": 16, "repeats": 3},
        {
            "of one draw the KL alone": Sabotage("more draws gain nothing", ((ANALYTIC_KL, climbs(lambda e, p: p.log_w.mean(0) * (e.num_particles > 1) - p.kl)),), trains=True)
        },
        smaller=(parts(400, 100), QUICKER),
    ),
    "14_analytic_kl_helps": Case(
        {"epochs": [0, 3], "hidden": 16, "draws": 200},
        {
            "half of the KL": Sabotage("formula, torch and vbayes agree", (("vbayes.drawing.draw:FIELDS", lambda fields: {**fields, "kl": lambda run: fields["kl"](run) / 2}),)),
            "variances for deviations": Sabotage("formula, torch and vbayes agree", ((f"{SPACE}.encode", makes(lambda q: (q[0], q[1].square()))),)),
        },
        smaller=(parts(300, 100), QUICKER),
    ),
    "15_elbo_against_training_samples": Case(
        {"latents": [2, 20], "samples": [2000, 10_000]},
        {
            "no KL": Sabotage("it rises; more latents do not overfit", ((ANALYTIC_KL, climbs(lambda e, p: p.log_w.mean(0))),), trains=True),
            "nothing is learnt": Sabotage("", (("vbayes.training.result:Fit.resume", always(lambda fit, **more: fit)),), trains=True, answer=("Fails here (", "Can't tell (")),
        },
    ),
    "15_iwae_table": Case(
        {"methods": ["VAE-1", "VAE-3", "IWAE-3"], "latent": 5, "hidden": 16, "batch_size": 50, "stages": 3},
        {
            "the least weights count most": Sabotage("it is not behind the ELBO with as many", (("vbayes.estimators.iwae:log_mean_exp", lambda right: lambda log_w: -right(-log_w)),), trains=True)
        },
        smaller=(parts(600, 200), with_("fit", learning_rate=0.03)),
    ),
    "15_marginal_likelihood_small_data": Case(
        {"rows": [100], "samples": [600], "longer": 30, "hidden": 16, "judged": 50},
        {
            "the KL alone": Sabotage("it is not behind wake-sleep", ((ANALYTIC_KL, climbs(lambda e, p: -p.kl)),), trains=True)
        },
        smaller=(("vbayes:log_evidence", by_weights), (":time", hastening)),
    ),
    "16_latent_space_is_interpretable": Case(
        {"epochs": 24, "hidden": 64, "repeats": 3},
        {
            "codes of the neighbour": Sabotage("more are told right than by PCA", ((f"{SPACE}.encode", makes(lambda q: (q[0].roll(1, 0), q[1]))),)),
            "pictures of the neighbour": Sabotage("a place generates what lies there", ((f"{SPACE}.decode", makes(lambda mean: mean.roll(1, 0))),)),
            "nothing is learnt": Sabotage("more are told right than by PCA", (UNTAUGHT,), trains=True),
        },
        smaller=(QUICKER,),
    ),
    "17_vae_generates": Case(
        {"epochs": 16, "hidden": 64, "count": 300, "repeats": 6},
        {
            "a decoder that does not hear z": Sabotage("all kinds are drawn", ((f"{SPACE}.decode", lambda decode: lambda self, z: decode(self, 0 * z)),)),
            "the data again": Sabotage("they are no copies", ((f"{SPACE}.generate", always(lambda self, count, *, seed: (self.encode()[0][:count], self.data.first[:count]))),)),
            "no KL": Sabotage("z has the prior's spread", ((ANALYTIC_KL, climbs(lambda e, p: p.log_w.mean(0))),), trains=True),
        },
        smaller=(QUICKER, (":HALF", always(0.1)), (":MLPClassifier", always(lambda *args, **more: LogisticRegression(max_iter=300)))),
    ),
    "18_vae_oversmooths": Case(
        {"latents": [2], "epochs": 4, "hidden": 32, "repeats": 3},
        {
            "pixels drawn, not averaged": Sabotage("mean pictures are smoother", ((f"{SPACE}.decode", makes(torch.bernoulli)),)),
            "nothing is learnt": Sabotage("mean pictures are smoother", (UNTAUGHT,), trains=True),
            "grey pictures": Sabotage("(reconstructions are nearer to a datum", ((f"{SPACE}.decode", makes(lambda mean: torch.full_like(mean, 0.5))),)),
        },
        smaller=(QUICKER,),
    ),
}
# fmt: on
