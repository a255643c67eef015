"""Says what it would gain to keep each task at the step that is best for it."""

import math
from collections.abc import Mapping
from typing import Any

from tag_jax.report import words


def own_best_sentence(results: Mapping[str, Any]) -> str:
    """Says what it would gain on validation to keep each task at its own best step; '' if unknown.

    Args:
      results: what results.json holds.
    """
    if not (found := results.get('own_best')):
        return ''
    kept, own = (
        math.fsum(of[name] for of in found.values()) for name in ('validation', 'own_validation')
    )
    unlike = sum(of['step'] != of['own_step'] for of in found.values())
    if not unlike or not kept > 0:
        return 'Every task does best at the step at which its network was kept.'
    one = words.measure(results.get('select_by'))
    return (
        f'Networks are kept at the step that is best for their tasks together. At its own best '
        f'step, which for {unlike} of {len(found)} tasks is another one, the total validation '
        f'{one.name} would be {one.text(own)}{one.unit} in place of {one.text(kept)}{one.unit}, '
        f'{100 * (1 - own / kept):.1f} % lower. That is the most it could gain, since these steps '
        'are chosen on validation; on test it is not known. It would take an encoder a task at '
        'inference.'
    )
