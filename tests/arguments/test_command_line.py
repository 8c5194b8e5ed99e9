"""What is typed is checked where what is called is: one screen, exit code 2."""

from __future__ import annotations

import pytest

from vbayes.cli.app import main

TRAIN = ("train", "normal_normal", "--steps", "2")
CASES = {
    "a negative seed": ((*TRAIN, "--seed", "-1"), "seed=-1 is below 0"),
    "a rate of NaN": ((*TRAIN, "--learning-rate", "nan"), "learning_rate=nan is not finite"),
    "no device": ((*TRAIN, "--device", ""), "device=''"),
    "no data set": ((*TRAIN, "--data", ""), "There is no data set named ''"),
    "more steps than memory holds": (("train", "normal_normal", "--steps", str(10**12)), "GB of memory"),
    "no module": (("train", ":x"), "Can't import 'x' from ''"),
    "a module beside nothing": (("train", "..a:x"), "Can't import 'x' from '..a'"),
    "too few replicas": (("compare", "normal_normal", "--replicas", "3", "--epochs", "1"), "replicas=3 is below 100"),
    "no budget": (("recommend", "normal_normal", "--budget", "nan"), "budget=nan is not finite"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_typed_wrong_is_one_screen(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed, words = CASES[case]
    with pytest.raises(SystemExit) as ended:
        main(list(typed))
    said = " ".join(line.strip("│ ") for line in capsys.readouterr().err.splitlines())
    assert ended.value.code == 2 and words in said and ("Wanted" in said or "Known" in said)
