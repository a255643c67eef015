"""Colours and markers that tell many lines apart, for the colour-blind as well."""

from typing import Any

# The colours of Okabe and Ito, without yellow, which is hard to see on white.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')


def style(number: int) -> dict[str, Any]:
    """The colour and the marker of a line; no two of the first 56 have both alike.

    Args:
      number: of the line, from 0.
    """
    return {
        'color': COLOURS[number % len(COLOURS)],
        'marker': MARKERS[number % len(MARKERS)],
    }
