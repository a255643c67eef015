"""Answers of a finished run for the rows of a file.

    tag-jax predict runs/tag_mine_001 new.csv

reads the networks that the run kept, without the code of their model, and writes new_answers.csv
beside the file: a row for each of its rows, a column for each task, with the names of classes and
numbers in natural units. The file needs the input columns of the run, in any order, and is read as
the table of the run was, unless flags say otherwise; --missing adds to what the run took for
missing. Cells unlike any that the run was trained on are named in a warning.

    tag-jax predict --run=runs/tag_mine_001 --table=new.csv --out=answers.csv --keep=patient_id

copies the column patient_id in front of the answers. With --probabilities each class has a column
as well, such as 'grade: IV'.
"""

import csv
import dataclasses
import io
import pathlib

import numpy as np
from absl import flags

import tag_jax
from tag_jax.launchers import launch, tables
from tag_jax.runs import storage

flags.DEFINE_string('run', None, 'Folder of the finished run, as tag-jax group leaves it.')
flags.DEFINE_string(
    'out', None, 'The .csv file of answers; by default one beside the table, called after it.'
)
flags.DEFINE_bool('overwrite', False, 'Replace the file of answers if it is there already.')
flags.DEFINE_list('keep', [], 'Columns of the table that are copied in front of the answers.')
flags.DEFINE_bool('probabilities', False, 'A column for the probability of each class as well.')
for name in ('table', *tables.CELLS):
    flags.declare_key_flag(name)

FLAGS = flags.FLAGS

# --keep has another meaning in launchers that train.
OWN_GROUPS = {'Answers': ('keep', 'probabilities')}
_COMPRESSED = ('.gz', '.bz2', '.xz')


def main(*arguments):
    """Writes the answers of a run for the rows of a table."""
    run, table = _asked(arguments)
    out = _out(pathlib.Path(table))
    result = tag_jax.grouping.load(run)
    encoding = result.encoding
    if encoding is None or encoding.inputs is None:
        raise ValueError(
            f'the run {run} was not trained on columns, which a table could hold: predict in '
            f'Python, with grouping.load({str(run)!r}).predict(inputs)'
        )
    encoding = encoding._replace(form=_form(encoding.form))
    file = tag_jax.data.opening.open_table(table, encoding.form)
    _check_names(file)
    kept = _kept(file, result.task_names)
    outputs = dataclasses.replace(result, encoding=encoding).outputs(table)
    columns = kept + answer_columns(result.tasks, encoding, outputs)
    if FLAGS.probabilities:
        columns += probability_columns(result.tasks, encoding, outputs)
    names, cells = zip(*columns, strict=True)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'two columns of answers would be called {twice[0]!r}: rename a task')
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(names)
    writer.writerows(zip(*cells, strict=True))
    storage.write_bytes(out, text.getvalue().encode())
    print(f'answers: {out}')


def answer_columns(tasks, encoding, outputs):
    """The answers of all tasks, as columns of text: `[(name, cells)]`.

    Args:
      tasks: `{task: Objective}`.
      encoding: of the run.
      outputs: `{task: [N, ...]}`, what the heads give.

    Raises:
      ValueError: if the answers of a task are no numbers or classes, one or several a row.
    """
    found = []
    for task, answer in tag_jax.grouping.answers.answers(tasks, encoding, outputs).items():
        names = [task]
        if answer.ndim > 1:
            names = [f'{task}[{name}]' for name in _names(encoding, task, answer.shape[1])]
        found += _columns(task, names, answer)
    return found


def probability_columns(tasks, encoding, outputs):
    """The probabilities of all classes, as columns of text: `[(name, cells)]`.

    Args:
      tasks, encoding, outputs: see `answer_columns`.

    Raises:
      ValueError: if a task has classes for several places of a row.
    """
    found = []
    for task, chances in tag_jax.grouping.answers.probabilities(tasks, outputs).items():
        names = _names(encoding, task, chances.shape[1])
        found += _columns(task, [f'{task}: {name}' for name in names], chances)
    return found


def _names(encoding, task, size):
    """The names of the classes of a task, or of its several labels; else numbers."""
    target = encoding.targets.get(task)
    given = () if target is None else target.classes or target.names
    return given if len(given) == size else range(size)


def _columns(task, names, values):
    if values.ndim > 2:
        raise ValueError(
            f'the answers of {task!r} are arrays {list(values.shape[1:])} for a row, which a table '
            'does not hold: predict in Python, with grouping.load'
        )
    by_column = values.reshape(len(values), len(names)).T.tolist()
    return [(name, list(map(_cell, column))) for name, column in zip(names, by_column, strict=True)]


def _cell(value):
    """A value as text; networks answer in float32, of which nine digits are all."""
    return f'{value:.9g}' if isinstance(value, float) else str(value)


def _asked(arguments):
    """The run and the table: arguments, in this order, or flags."""
    given = list(arguments)
    asked = [FLAGS[name].value or (given.pop(0) if given else None) for name in ('run', 'table')]
    if given:
        raise ValueError(f'there is no use for {given[0]!r}: name one run and one table')
    if None in asked:
        command = ' '.join(launch.program())
        raise ValueError(f'name the folder of a run and a table: {command} RUN TABLE')
    return asked


def _out(table):
    """The file that --out names, or one beside the table."""
    plain = table.with_suffix('') if table.suffix in _COMPRESSED else table
    beside = plain.with_name(f'{plain.stem}_answers.csv')
    out = beside if FLAGS.out is None else pathlib.Path(FLAGS.out)
    if out.suffix != '.csv':
        raise ValueError(f'--out must be a .csv file, not {out}')
    if not out.parent.is_dir():
        raise ValueError(f'there is no folder {out.parent} for the answers: name another --out')
    if out.resolve() == table.resolve():
        raise ValueError(f'{out} is the table itself: name another file with --out')
    if out.is_dir() or (out.exists() and not FLAGS.overwrite):
        raise ValueError(
            f'{out} is there already: name another file with --out, or replace it with --overwrite'
        )
    return out


def _form(usual):
    """How the table is read: as that of the run was, but for what flags say."""
    given = tables.cells(FLAGS)
    declared = tag_jax.data.columns.missing_values(given.pop('missing'))
    missing = {
        column: (*usual.missing.get(column, ()), *declared.get(column, ()))
        for column in {**usual.missing, **declared}
    }
    changed = {name: value for name, value in given.items() if FLAGS[name].present}
    return usual._replace(missing=missing, **changed)


def _check_names(file):
    """Raises ValueError at a flag that names a column that the table does not have."""
    declared = [column for column in tables.cells(FLAGS)['missing'] if column]
    for flag, names in (('keep', FLAGS.keep), ('missing', declared)):
        if unknown := [name for name in names if name not in file.names]:
            raise ValueError(
                f'--{flag} names the column {unknown[0]!r}, and {file.path} has none of that name: '
                f'it has {", ".join(file.names)}'
            )


def _kept(file, task_names):
    """The columns that --keep names, as they are: `[(name, cells)]`."""
    if both := [name for name in FLAGS.keep if name in task_names]:
        raise ValueError(
            f'--keep={both[0]} would stand beside the answers of that name: leave it out'
        )
    return [(name, _text(file, name)) for name in dict.fromkeys(FLAGS.keep)]


def _text(file, name):
    """The cells of a column as text; those that are missing are blank."""
    try:
        column = file.column(name, 'text')
    except ValueError:  # Dates of a file that knows types.
        column = file.column(name, None)
    values = column.values
    if column.kind == 'date':
        values = np.datetime_as_string(values, 'auto')
    return ['' if gap else str(value) for value, gap in zip(values, column.missing, strict=True)]
