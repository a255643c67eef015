"""Flags of datasets, and the dataset that they ask for.

JAX is slow to import, and flags are defined without it: parts of the package are named as
`tag_jax.data`, which imports them then.
"""

from absl import flags

import tag_jax
from tag_jax.launchers import tables
from tag_jax.launchers.launch import choose
from tag_jax.launchers.recipes import DATASETS
from tag_jax.runs import storage, workdir

flags.adopt_module_key_flags(tables)
flags.DEFINE_string(
    'dataset',
    'multi_digits',
    f'One of: {", ".join(DATASETS)}; table is understood where --table names a file.',
)
flags.DEFINE_string(
    'data_dir', None, 'Folder of the files of a dataset that does not come with the package.'
)
flags.DEFINE_list(
    'image_size', None, 'Side of its images, or height and width; by default as its paper has it.'
)
flags.DEFINE_integer(
    'num_validation',
    None,
    'Training images that multi_mnist and cityscapes hold out for validation; 0 to train again on '
    'all of cityscapes.',
)
flags.DEFINE_integer(
    'images_per_building',
    1000,
    'Images of a building of taskonomy in validation and in test, at most, as in the code of its '
    'papers; 0 for all.',
)

FLAGS = flags.FLAGS


def dataset_name():
    """The dataset that --dataset names; 'table' where only --table says which one it is."""
    understood = FLAGS.table is not None and FLAGS['dataset'].using_default_value
    return 'table' if understood else FLAGS.dataset


def load_dataset():
    """The `Dataset` that --dataset names."""
    chosen = recipe()
    for name in sorted({flag for one in DATASETS.values() for flag in one.flags}):
        if FLAGS[name].present and name not in chosen.flags:
            raise ValueError(f'--{name} is of no use to --dataset={dataset_name()}')
    return _with_reading(chosen.load(FLAGS))


def load_split(number, folds):
    """One of several splits of the `Dataset` that --dataset names.

    Args:
      number: of the split, from 0.
      folds: how many folds the examples are in, of which this one is the test split; 0 to split
        them anew.
    """
    split = recipe().split
    if split is None:
        able = ', '.join(name for name, recipe in DATASETS.items() if recipe.split)
        raise ValueError(
            f'--splits and --folds are for datasets that can be split anew ({able}), and '
            f'{dataset_name()} comes with its splits'
        )
    return _with_reading(split(FLAGS, number, folds))


def tell_columns(dataset, folder=None):
    """Prints what the columns of a table were taken for, and keeps it in the folder of a run.

    Args:
      dataset: a `Dataset`.
      folder: of the run; None to keep nothing.
    """
    if dataset.encoding is not None and tag_jax.parallel.is_first():
        print(dataset.encoding.describe(flags=True), flush=True)
        if folder is not None:
            encoding = tag_jax.data.encoding.to_json(dataset.encoding)
            storage.write_json(folder / workdir.ENCODING, encoding)


def _with_reading(dataset):
    """A dataset with what config.json holds of how a table was read."""
    return dataset._replace(reading=_reading()) if dataset_name() == 'table' else dataset


def _reading():
    """The flags that say how a table is read and split, where they say something, for config.json.

    The file stands apart: a run goes on with it when it has moved.
    """
    given = {name: FLAGS[name].value for name in tables.NAMES}
    changed = {name: value for name, value in given.items() if value != FLAGS[name].default}
    return {'table_file': changed.pop('table'), workdir.TABLE: changed}


def recipe():
    """The `recipes.Recipe` of the dataset that --dataset names."""
    return choose('dataset', dataset_name(), DATASETS)
