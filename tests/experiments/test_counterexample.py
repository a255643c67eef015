"""The counterexample of Fifty et al. 2021 through its real command."""

import json

from launching import launch


def test_the_printed_losses_come_out_with_a_tenth_of_the_step(tmp_path):
    printed = launch('counterexample', f'--workdir={tmp_path / "run"}').stdout
    assert 'come out with a step size of 0.009; the text names 0.09' in printed
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    stated, true = results['losses_after']['0.09'], results['losses_after']['0.009']
    for name, loss in results['printed'].items():
        assert abs(true[name] - loss) < 0.006
    # With the step size that the text names.
    for name, loss in {'b': 7.199, 'c': 7.222, 'a + b': 3.748, 'a + c': 0.733}.items():
        assert abs(stated[name] - loss) < 0.001
    assert printed.count('not met') == 1
    assert (tmp_path / 'run' / 'counterexample.png').stat().st_size > 10_000
