"""Methods as flags name them."""

import pytest

from tag_jax import grouping
from tag_jax.launchers import methods


def test_methods_with_options():
    made = methods.make('subsets:count=30:fraction=0.2:keep=true')
    assert made.displayed == grouping.subsets(count=30, fraction=0.2, keep=True).displayed
    based = methods.make('verify:base=hoa')
    assert based.displayed == grouping.verify(base=grouping.hoa()).displayed


def test_other_encoders_go_to_the_methods_that_take_them():
    assert 'smaller=0.5' in methods.make('exhaustive', smaller=0.5).displayed
    assert 'smaller' not in methods.make('tag', smaller=0.5).displayed
    assert 'wider' in methods.make('recommended', wider=2.0).displayed


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('best', "there is no method called 'best'"),
        ('subsets:number=3', "subsets has no option 'number=3': give subsets:count=... or "),
        ('subsets:count', "subsets has no option 'count'"),
        ('hoa:count=3', "hoa has no option 'count=3'"),
        ('subsets:count=many', "--method=subsets:count=many needs a number, not 'many'"),
        ('subsets:count=true', "--method=subsets:count=true needs a number, not 'true'"),
        ('subsets:keep=1', "--method=subsets:keep=1 needs true or false, not '1'"),
    ],
)
def test_what_is_no_method_is_named(text, sentence):
    with pytest.raises(ValueError, match='.') as error:
        methods.make(text)
    assert sentence in str(error.value)
