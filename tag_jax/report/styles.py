"""Colours and markers that tell many lines apart, for the colour-blind as well."""

from typing import Any

# The colours of pages and pictures, on light and on dark. Those of text and of networks, n1 to n6,
# keep 4.5 : 1 against the page.
PALETTE = {
    'page': ('#ffffff', '#14171b'),
    'text': ('#1b1f24', '#e6e9ed'),
    'muted': ('#57606a', '#9ba5b0'),
    'rule': ('#d0d7de', '#3a424b'),
    'panel': ('#f3f5f7', '#1e2329'),
    'n1': ('#0069a8', '#5cb6f2'),
    'n2': ('#b84a00', '#ff9a55'),
    'n3': ('#00775a', '#45cfa4'),
    'n4': ('#a23c82', '#eb9fcf'),
    'n5': ('#7a6200', '#dcc24a'),
    'n6': ('#5a4fcf', '#aaa5ff'),
}
NETWORK_COLOURS = 6

# The colours of Okabe and Ito, without yellow, which is hard to see on white.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')


def light(name: str) -> str:
    """A colour of the palette as pictures have it; in a page it follows the dark mode.

    Args:
      name: of PALETTE.
    """
    return PALETTE[name][0]


def of_network(network: int) -> tuple[str, bool]:
    """The name of a network's colour, and whether its lines are dashed: from the seventh on.

    Args:
      network: its number, from 0.
    """
    return f'n{network % NETWORK_COLOURS + 1}', network >= NETWORK_COLOURS


def style(number: int) -> dict[str, Any]:
    """The colour and the marker of a line; no two of the first 56 have both alike.

    Args:
      number: of the line, from 0.
    """
    return {
        'color': COLOURS[number % len(COLOURS)],
        'marker': MARKERS[number % len(MARKERS)],
    }
