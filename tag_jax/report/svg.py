"""Figures as SVG inside a page: they follow its colours, in the dark too, and its width."""

import html
import io
import re

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from tag_jax.report.styles import PALETTE

# A part of a figure whose gid begins so has the rest of it shown where the pointer rests on it.
SAYS = 'says:'
# The gid of text inside a coloured box.
INSIDE = 'inside'

_OPENING = re.compile(r'<svg [^>]*viewBox="([^"]+)"[^>]*>')
_LEFT_OUT = re.compile(
    r'<metadata>.*?</metadata>'  # The program that drew it.
    r'|<defs>\s*<style.*?</style>\s*</defs>'  # It would hold for the whole page.
    r'|<!--.*?-->'  # Every text once more.
    r'| id="(?:figure|axes|patch|text|line2d|[xy]tick|legend|matplotlib\.axis|\w*Collection)_\d+"'
    r'|font-family: [^;\"]*;? ?',
    re.DOTALL,
)


def svg(figure: Figure, description: str, kind: str = 'chart', tight: bool = False) -> Markup:
    """A matplotlib figure as SVG.

    Colours of `styles.PALETTE` follow the dark mode of the page, and so does black.

    Args:
      figure: what is drawn.
      description: of it, for those who cannot see it.
      kind: 'chart' for a picture as wide as there is room, 'diagram' for one of its own size.
      tight: whether it is cut to what is drawn.
    """
    buffer = io.StringIO()
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': description}):
        figure.savefig(
            buffer,
            format='svg',
            transparent=True,
            bbox_inches='tight' if tight else None,
            metadata={'Date': None},
        )
    text = buffer.getvalue()
    text = _LEFT_OUT.sub('', text[text.index('<svg') :])
    box = _OPENING.match(text)[1]
    width, height = (float(x) * 96 / 72 for x in box.split()[2:])  # Points in pixels of a page.
    size = f' width="{width:.0f}" height="{height:.0f}"' if kind == 'diagram' else ''
    described = html.escape(description)
    opening = f'<svg class="{kind}" role="img" aria-label="{described}" viewBox="{box}"{size}>'
    text = _OPENING.sub(lambda _: opening, text, count=1)
    text = re.sub(f'<g id="{SAYS}([^"]*)">', r'<g><title>\1</title>', text)
    text = text.replace(f'<g id="{INSIDE}">', f'<g class="{INSIDE}">')
    for name, (colour, _) in PALETTE.items():
        text = text.replace(colour, f'var(--{name})')
    return Markup(text.replace('#000000', 'var(--text)'))
