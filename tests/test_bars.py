"""What shows life while networks train: lines where there is no terminal."""

import io
import sys

from small import make_problem, make_split

from tag_jax import training
from tag_jax.training import NetworkPlan, TrainingConfig, bars

CONFIG = TrainingConfig(steps=20, batch_size=16, eval_every=5, workers=1, slots=1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(shown=True):
    plans = [NetworkPlan(name, ('sign',), 0, 1e-3) for name in ('one', 'other')]
    training.train_networks(
        make_problem(), make_split(64), make_split(32, 1), plans, CONFIG, progress_bar=shown
    )


def test_a_log_file_has_a_line_for_each_evaluation(capsys, monkeypatch):
    monkeypatch.setattr(bars, 'LINE_SECONDS', 0)
    train()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith('training 2 networks: 5 of 40 steps (12 %); one at step 5: total ')
    assert lines[-1].startswith('training 2 networks (1 done): 40 of 40 steps (100 %); other at')


def test_lines_are_few_where_evaluations_are_many(capsys, monkeypatch):
    monkeypatch.setattr(bars, 'LINE_SECONDS', 1000)
    train()
    assert capsys.readouterr().err == ''


def test_nothing_is_shown_where_nothing_is_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(bars, 'LINE_SECONDS', 0)
    train(shown=False)
    assert capsys.readouterr().err == ''


def test_a_terminal_has_a_bar(monkeypatch):
    found = Terminal()
    monkeypatch.setattr(sys, 'stderr', found)
    train()
    assert '\r' in found.getvalue()
    assert 'at step' not in found.getvalue()
