"""Tables for people have words for headings; files keep the names of columns."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.console import Console

from vbayes.headings import heading
from vbayes.summaries.tables import table


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ms_per_gradient", "ms per gradient"),
        ("snr", "SNR"),
        ("variance_se", "SE of variance"),
        ("se", "SE"),
        ("elbo_per_datum_se", "SE of ELBO per datum (nats)"),
        ("kl", "KL (nats)"),
        ("kl_best", "KL best (nats)"),
        ("log_p_se", "SE of log p(x) (nats)"),
        ("minus_log_p", "−log p(x) (nats)"),
        ("k_hat", "k̂"),
        ("variance_time", "variance × ms"),
        ("L", "L"),
        ("µs a step", "µs a step"),
    ],
)
def test_a_heading_is_the_name_in_words_with_its_unit(name, words):
    assert heading(name) == words


def test_a_table_in_the_terminal_has_headings_and_one_of_a_users_columns_their_names(capsys):
    frame = pd.DataFrame({"log_p": [-1.0], "county_id": ["Aitkin"]})
    for how, wanted in (({}, "log p(x) (nats)  county id"), ({"heading": str}, "log_p  county_id")):
        Console(width=80).print(table(frame, **how))
        assert " ".join(wanted.split()) in " ".join(capsys.readouterr().out.split())


def test_a_number_that_heads_a_section_has_its_name(capsys):
    frame = pd.DataFrame({"latents": [2, 8], "at": "start", "snr": [0.1, 0.2]})
    Console(width=80).print(table(frame, ("latents", "at")))
    said = capsys.readouterr().out
    assert "latents = 2 · start" in said and "latents = 8 · start" in said


def test_headings_of_a_wide_table_give_way_and_no_name_is_cut(capsys):
    frame = pd.DataFrame({"estimator": ["measure_valued", "gumbel_softmax"], "at": "three binary latents"})
    frame = frame.assign(**{name: 0.000123 for name in ("mean_norm", "variance", "variance_se", "snr", "bias_z", "ms_per_gradient", "variance_time")})  # fmt: skip
    Console(width=80).print(table(frame, ("at",)))
    said = capsys.readouterr().out
    assert "measure_valued" in said and "gumbel_softmax" in said and "…" not in said
