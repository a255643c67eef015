"""The recipes of docs/loggers.md with the real loggers, read again by readers of their own."""

import glob
import logging
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

from tag_jax import grouping
from tag_jax.training import TrainingConfig

PAGE = pathlib.Path(__file__).parent.parent / 'docs' / 'loggers.md'
CONFIG = TrainingConfig(steps=20, batch_size=64, eval_every=10)


def recipe(title):
    """The snippet under a title."""
    return re.search(rf'## {title}\n.*?```python\n(.*?)```', PAGE.read_text(), re.DOTALL)[1]


@pytest.fixture
def names(problem, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {'grouping': grouping, 'model': problem, 'dataset': dataset, 'config': CONFIG}


def test_logging(names, caplog):
    with caplog.at_level(logging.INFO):
        exec(compile(recipe('logging'), PAGE.name, 'exec'), names)
    lines = [record.message for record in caplog.records if record.name == 'mine']
    assert any(line.startswith('mtl: step 20, total validation error') for line in lines)


def test_tensorboard(names, tmp_path):
    pytest.importorskip('tensorboardX')
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    exec(compile(recipe('TensorBoard'), PAGE.name, 'exec'), names)
    events = accumulator.EventAccumulator(str(tmp_path / 'runs' / 'board'))
    events.Reload()
    found = events.Scalars('mtl/validation_error/sign')
    assert [event.step for event in found] == [10, 20]
    assert all(0 <= event.value <= 100 for event in found)
    assert 'mtl/training_loss/radius' in events.Tags()['scalars']


_READ = """
    import json, pathlib, struct, sys
    from wandb.proto import wandb_internal_pb2

    # A log of LevelDB, of blocks with parts of records, behind seven bytes of wandb's own.
    content, place, whole, found = pathlib.Path(sys.argv[1]).read_bytes(), 7, b'', []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # No header fits into the rest of a block.
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack('<IHB', content[place : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind not in (1, 4):  # Whole, or the last part.
            continue
        record, whole = wandb_internal_pb2.Record.FromString(whole), b''
        if record.WhichOneof('record_type') == 'history':
            items = record.history.item
            names = [one.key or '.'.join(one.nested_key) for one in items]
            found.append(dict(zip(names, [json.loads(one.value_json) for one in items])))
    print(json.dumps(found))
"""


@pytest.mark.sweep  # Its short form: test_logging.
def test_weights_and_biases(names, tmp_path):
    """In a process of its own, since wandb changes the process that it runs in."""
    pytest.importorskip('wandb')
    script = f"""
        import sys
        sys.path[:0] = {[str(pathlib.Path(__file__).parent), str(PAGE.parent.parent)]!r}
        from small import TASKS, make_problem, make_split
        from tag_jax import grouping
        from tag_jax.data import Dataset
        from tag_jax.training import TrainingConfig
        model = make_problem()
        dataset = Dataset('points', TASKS, make_split(256), make_split(100, 1), make_split(100, 2))
        config = TrainingConfig(steps=20, batch_size=64, eval_every=10)
    """
    code = textwrap.dedent(script) + recipe('Weights & Biases')
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = glob.glob(str(tmp_path / 'runs' / 'wandb' / 'offline-run-*' / '*.wandb'))
    read = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(_READ), file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    assert '"mtl/step": 20' in read.stdout
    assert '"mtl/error/sign"' in read.stdout
