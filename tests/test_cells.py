"""One rule for text files, whoever reads them."""

import math

import pytest

from tag_jax import cells, data, selection
from tag_jax.runs import affinity_files

AFFINITY = 'source,a,é\na,0,{}\né,0.5,0\n'
NETWORKS = 'network,cost,a,é\nA,1,0.5,{}\nB,1,0.25,0.75\n'
TABLE = 'x,é\n' + ''.join(f'{n},{n / 7}\n' for n in range(20))


def readers(tmp_path, encoding, cell='0.5'):
    """(a function that reads a file, its text in an encoding) for each kind of file."""
    for name, text, read in (
        ('affinity.csv', AFFINITY, affinity_files.read_affinity),
        ('networks.csv', NETWORKS, selection.read_candidates),
        ('table.csv', TABLE, lambda path: data.table(path, ['é'])),
    ):
        (tmp_path / name).write_bytes(text.format(cell).encode(encoding))
        yield tmp_path / name, read


def test_files_in_another_encoding_end_in_a_sentence(tmp_path):
    for path, read in readers(tmp_path, 'latin-1'):
        with pytest.raises(
            ValueError, match=f'{path.name} is not in the encoding utf-8: see its li'
        ):
            read(path)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_files_with_a_mark_of_order_and_without(tmp_path, encoding):
    affinity, networks, table = (read(path) for path, read in readers(tmp_path, encoding))
    assert affinity['task_names'] == networks['validation'].task_names == ('a', 'é')
    assert list(table.tasks) == ['é']


@pytest.mark.parametrize('word', ['', 'NA', 'n/a', '<NA>', 'null', '#N/A', ' nan '])
def test_words_for_what_is_missing_are_the_same_everywhere(tmp_path, word):
    (affinity, read_affinity), (networks, read_networks), _ = readers(tmp_path, 'utf-8', word)
    assert math.isnan(read_affinity(affinity)['mean'][0, 1])
    assert read_networks(networks)['validation'].members.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize('word', ['?', '-', '1_000', '0x1', 'one', '1,5'])
def test_other_words_are_no_numbers(tmp_path, word):
    with pytest.raises(ValueError, match='is not a number'):
        cells.number(word)
    for path, read in list(readers(tmp_path, 'utf-8', f'"{word}"'))[:2]:
        with pytest.raises(ValueError, match='is not a number'):
            read(path)
