"""The common part of the launchers of papers' experiments: grouping, or weighting with --compare.

Every one of them is the main job on its dataset, with all grouping methods; with --compare it is
the comparison of ways of weighting instead.
"""

from absl import flags

from tag_jax.launchers import group, weigh

flags.DEFINE_bool('compare', False, 'Ways of weighting tasks side by side, in place of grouping.')
flags.adopt_module_key_flags(group)
flags.adopt_module_key_flags(weigh)

FLAGS = flags.FLAGS

_GROUPING = (
    *('method', 'budget', 'resume', 'scores', 'affinity', 'smaller', 'weighting', 'coordinator'),
    *('num_processes', 'process_id', 'dry_run'),
)
_WEIGHTING = ('methods', 'seeds', 'grid', 'learning_rates', 'tasks', 'retrain')


# The learning rates that Sener & Koltun 2018 search over.
SENER_RATES = ['1e-4', '5e-4', '1e-3', '5e-3', '1e-2', '5e-2']


def run(dataset, learning_rates=None, retrain=False):
    """Groups or weighs the tasks of a dataset.

    Args:
      dataset: its name.
      learning_rates: to choose from where tasks are weighed; None for that of the dataset alone.
      retrain: whether networks train again on validation examples too, where tasks are weighed.
    """
    FLAGS.dataset = dataset
    for name in ('dataset', *(_GROUPING if FLAGS.compare else _WEIGHTING)):
        if FLAGS[name].present:
            there = 'with' if FLAGS.compare else 'without'
            raise ValueError(f'--{name} is of no use here {there} --compare')
    if not FLAGS.compare:
        return group.main()
    weigh.take_settings_of_paper(learning_rates, retrain)
    return weigh.main()
