"""ARFF files, the format of many collections of tables, against the same columns in memory."""

import numpy as np
import pytest

from tag_jax import data
from tag_jax.data import opening

CONTENT = """@relation moods
@attribute loud numeric
@attribute 'beats a minute' real
@attribute mode {major,minor}
@attribute calm {0,1}
@data
1.5,120,major,0
?,90,minor,1
-2,?,?,1
0.25,60,minor,0
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'moods.arff'
    path.write_text(CONTENT)
    return path


def test_columns_are_what_the_file_says(path):
    table = opening.open_table(path)
    assert table.names == ('loud', 'beats a minute', 'mode', 'calm')
    loud = table.column('loud', 'number')
    assert np.isnan(loud.values[1]) or loud.missing[1]
    np.testing.assert_array_equal(np.delete(loud.values, 1), [1.5, -2, 0.25])
    mode = table.column('mode', 'text')
    assert mode.values[[0, 1, 3]].tolist() == ['major', 'minor', 'minor']
    assert mode.missing.tolist() == [False, False, True, False]


def test_a_dataset_is_made_of_it(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f'{x:.3f},{"ab"[int(x > 0)]},{int(x > 0.2)}' for x in rng.normal(size=40)]
    header = '@relation r\n@attribute x numeric\n@attribute k {a,b}\n@attribute y {0,1}\n@data\n'
    (tmp_path / 'r.arff').write_text(header + '\n'.join(rows) + '\n')
    found = data.table(tmp_path / 'r.arff', ['y'])
    (tmp_path / 'r.csv').write_text('x,k,y\n' + '\n'.join(rows) + '\n')
    expected = data.table(tmp_path / 'r.csv', ['y'])
    np.testing.assert_array_equal(found.train.inputs, expected.train.inputs)
    np.testing.assert_array_equal(found.train.targets['y'], expected.train.targets['y'])


def test_what_is_not_read_is_said(tmp_path):
    (tmp_path / 'a.arff').write_text('@relation r\n@attribute x string\n@data\nhello\n')
    with pytest.raises(ValueError, match=r'a.arff is no table.*sparse files, text and dates'):
        opening.open_table(tmp_path / 'a.arff')
