"""The settings of a run in words: what config.json holds."""

from collections.abc import Mapping
from typing import Any

from tag_jax.grouping.identity import settings
from tag_jax.training import TrainingConfig


def command(config) -> str:
    """The command that repeats a run, or a call in Python where it was started from there.

    Args:
      config: what config.json holds.
    """
    if 'command' in config:
        return config['command']
    asked = ['problem', 'dataset', *([f'budget={config["budget"]}'] if 'budget' in config else [])]
    asked.append(f'method={_method(config)}')
    usual = settings(TrainingConfig())
    changed = _changed({**config, 'affinity': None}, {**usual, 'affinity': None})
    if how := _changed(measurement(config), usual['affinity']):
        changed.append(f'affinity=Measurement({", ".join(how)})')
    if changed:
        asked.append(f'config=TrainingConfig({", ".join(changed)})')
    return f'grouping.group_tasks({", ".join([*asked, "workdir=..."])})'


def _changed(config, usual):
    """The settings that are not the usual ones, as arguments; functions by their names."""
    return [
        f'{key}={config[key] if key in ("weighting", "optimizer") else repr(config[key])}'
        for key, value in usual.items()
        if config.get(key, value) != value
    ]


def _method(config):
    """The call that makes the method of a run."""
    name, _, _ = config.get('method', 'tag').partition('(')
    given = [f'{key}={value!r}' for key, value in config.get('options', {}).items()]
    if name == 'from_affinities':
        given = ['...']
    return f'grouping.{name}({", ".join(given)})'


def measured_sentence(config: Mapping[str, Any]) -> str:
    """Says what the affinities of a run are, and where they come from.

    Args:
      config: what config.json holds.
    """
    kind = affinity_kind(config)
    if kind is None:
        return f'Measured elsewhere: {config["options"]["affinity"]}.'
    sentence = _AFFINITY_KINDS[kind]
    if measurement(config).get('step') == 'optimizer' and kind != 'cosine':
        sentence += ', with the step of the optimizer'
    if on_validation(config):
        sentence += ', compared on batches of the validation split'
    sentence += '; averaged over the training of one network on all tasks'
    start, stop = measurement(config).get('window', (0, 1))
    if (start, stop) != (0, 1):
        sentence += f', between {100 * start:g} and {100 * stop:g} % of its largest number of steps'
    every = measurement(config).get('every', 1)
    return sentence + (', at every step.' if every == 1 else f', every {every} steps.')


def affinity_kind(config) -> str | None:
    """The kind of the affinities of a run, of `affinity.KINDS`; None if they are from elsewhere."""
    if config.get('options', {}).get('affinity'):
        return None
    if config.get('method') == 'cosine_similarity':
        return 'cosine'
    return measurement(config).get('kind', 'exact')


def measurement(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings by which a run measured affinities, as `training.Measurement` names them."""
    return config.get('affinity') or {}


def on_validation(config) -> bool:
    """Whether a run compared losses on the validation split, where effects on itself count."""
    return measurement(config).get('split') == 'validation'


_SHARE = "The share of the target task's loss that one step on the source task alone takes away"
_AFFINITY_KINDS = {
    'exact': _SHARE,
    'first_order': f'{_SHARE}, to first order',
    'cosine': "The cosine between the gradients of the source task's and the target task's losses",
}


def plain(value) -> str:
    """A setting as text."""
    if isinstance(value, dict):
        return ', '.join(f'{name} {plain(one)}' for name, one in value.items())
    if isinstance(value, list):
        return ', '.join(map(plain, value))
    return f'{value:.4g}' if isinstance(value, float) else str(value)
