"""Rows unlike those that a network was trained on: they are answered, and told of."""

import json
import re

import numpy as np
import pandas
import pytest

from tag_jax import data, objectives
from tag_jax.data import encode_rows


@pytest.fixture(scope='module')
def frame():
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            'age': rng.normal(50, 10, 60),
            'weight': rng.normal(70, 5, 60),
            'colour': rng.choice(['red', 'blue'], 60),
            'same': np.ones(60),
        }
    )
    frame.loc[::7, 'weight'] = np.nan
    return frame


@pytest.fixture(scope='module')
def encoding(frame):
    labels = {'y': np.arange(60) % 2}
    dataset = data.from_arrays(frame, labels, {'y': objectives.classification(2)})
    return dataset.encoding


def told(encoding, rows, caplog):
    """What is told of rows that are encoded: one warning, or ''."""
    caplog.clear()
    encode_rows(encoding, rows)
    assert len(caplog.records) <= 1
    return caplog.messages[0] if caplog.records else ''


def changed(frame, column, cells):
    rows = frame.iloc[:10].copy().astype({column: object})
    for row, cell in cells.items():
        rows.iloc[row, rows.columns.get_loc(column)] = cell
    return rows


def test_rows_like_those_of_training_are_not_told_of(frame, encoding, caplog):
    assert told(encoding, frame, caplog) == ''


@pytest.mark.parametrize(
    ('column', 'cells', 'sentence'),
    [
        (
            'colour',
            {2: 'mauve', 5: 'pink', 6: 'mauve'},
            "3 of 10 rows of 'colour' have text that no training row had ('mauve', 'pink', first "
            'in row 3), which counts as missing',
        ),
        (
            'colour',
            {3: None},
            r"1 of 10 rows of 'colour' have no value .*, which no row",
        ),
        ('age', {3: None}, r"1 of 10 rows of 'age' have no value \(first row 4\), .* the mean"),
        (
            'age',
            {7: 5000, 8: -3000},
            r"2 of 10 rows of 'age' are further than 100 standard deviations .* \(5000 in row 8; ",
        ),
    ],
)
def test_what_no_training_row_had_is_told(frame, encoding, caplog, column, cells, sentence):
    pattern = re.escape(sentence) if 'mauve' in sentence else sentence
    assert re.search(pattern, told(encoding, changed(frame, column, cells), caplog))


@pytest.mark.parametrize(
    ('column', 'cells'),
    [('weight', {3: None}), ('same', {3: 5.0}), ('age', {3: 140.0})],
    ids=['was missing too', 'is no input', 'not that far'],
)
def test_what_may_be_is_not_told(frame, encoding, caplog, column, cells):
    assert told(encoding, changed(frame, column, cells), caplog) == ''


def test_text_that_was_missing_before_may_be_missing(frame, caplog):
    gaps = frame.assign(colour=frame['colour'].where(frame.index % 7 > 0, None))
    labels = {'y': np.arange(60) % 2}
    found = data.from_arrays(gaps, labels, {'y': objectives.classification(2)})
    assert told(found.encoding, changed(gaps, 'colour', {3: None}), caplog) == ''


def test_all_columns_are_told_in_one_warning_that_stays_short(caplog):
    inputs = {f'x{n}': np.random.default_rng(n).normal(size=60) for n in range(12)}
    labels = {'y': np.arange(60) % 2}
    frame = pandas.DataFrame(inputs)
    found = data.from_arrays(frame, labels, {'y': objectives.classification(2)})
    sentence = told(found.encoding, frame + 1e6, caplog)
    assert sentence.count('60 of 60 rows') == 8
    assert sentence.endswith('; and so on, 4 more')


def test_a_number_of_an_array_is_named_by_its_place(caplog):
    inputs, labels = np.random.default_rng(0).normal(size=(60, 3)), {'y': np.arange(60) % 2}
    found = data.from_arrays(inputs, labels, {'y': objectives.classification(2)})
    rows = inputs[:4].copy()
    rows[1, 2] = 1e4
    assert "1 of 4 rows of number 3 of 'inputs' are further" in told(found.encoding, rows, caplog)


def test_arrays_of_numbers_are_no_text(frame, encoding):
    with pytest.raises(ValueError, match=r"array \[3, 4\] of numbers, .* text in 'colour': give a"):
        encode_rows(encoding, np.zeros((3, 4)))
    objects = frame.iloc[:3].to_numpy(object)
    np.testing.assert_array_equal(encode_rows(encoding, objects), encode_rows(encoding, frame[:3]))


def test_arrays_of_numbers_stand_for_text_that_was_numbers(caplog):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({'part': rng.choice(['1', '2', '3+'], 60), 'x': rng.normal(size=60)})
    labels = {'y': np.arange(60) % 2}
    found = data.from_arrays(frame, labels, {'y': objectives.classification(2)})
    given = np.array([[1, 0.5], [2, 0.5]])
    as_text = pandas.DataFrame({'part': ['1', '2'], 'x': [0.5, 0.5]})
    np.testing.assert_array_equal(
        encode_rows(found.encoding, given), encode_rows(found.encoding, as_text)
    )
    assert not caplog.records


PICTURES = np.random.default_rng(0).uniform(size=(60, 4, 4, 1))
BYTES = (255 * PICTURES).astype(np.uint8)


def encoding_of(inputs):
    """The encoding of arrays that are left as they are, as a run saves and reads it."""
    labels = {'y': np.arange(60) % 2}
    found = data.from_arrays(inputs, labels, {'y': objectives.classification(2)}).encoding
    return data.encoding.from_json(json.loads(json.dumps(data.encoding.to_json(found))))


@pytest.mark.parametrize(
    ('trained', 'given', 'sentence'),
    [
        (
            PICTURES,
            BYTES,
            r'inputs go from 0 to 25\d, and those of the .* from 0.* to 0.9',
        ),
        (
            BYTES,
            PICTURES,
            r'inputs go from 0.* to 0.9.*, and those of the .* from 0 to 25',
        ),
        (
            BYTES.astype(np.float32) + 0.5,
            PICTURES,
            'those of the training split from 0.5 to 25',
        ),
        (
            2 * PICTURES - 1,
            BYTES,
            r'inputs go from 0 to 25\d, and those of the .* split from -',
        ),
        (
            {'left': PICTURES, 'right': BYTES},
            {'left': BYTES, 'right': BYTES},
            r"\['left'\] go",
        ),
    ],
)
def test_pictures_on_another_scale_are_told(trained, given, sentence, caplog):
    assert re.search(sentence, told(encoding_of(trained), given, caplog))


@pytest.mark.parametrize(
    ('trained', 'given'),
    [
        (PICTURES, PICTURES[:1] * 3),
        (BYTES, 0 * BYTES[:1]),
        (BYTES, BYTES[:1] // 255),
        (PICTURES, 0 * PICTURES[:1]),
        (np.arange(600).reshape(60, 10), np.ones((2, 10), int)),
        (np.ones((60, 4, 4, 1)), BYTES),
    ],
    ids=['brighter', 'black', 'whole numbers', 'black too', 'tokens', 'constant before'],
)
def test_pictures_that_may_be_are_not_told(trained, given, caplog):
    assert told(encoding_of(trained), given, caplog) == ''
