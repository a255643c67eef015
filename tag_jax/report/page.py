"""Pages that need no other file: HTML with its style and pictures inside."""

import base64
import html
import io
from collections.abc import Sequence

from matplotlib.figure import Figure


def page(title: str, body: str) -> str:
    """A whole page.

    Args:
      title: as text.
      body: as HTML, below the title.
    """
    title = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n'
        f'</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n'
    )


def table(header: Sequence[str] | None, rows: Sequence[Sequence[str]], kind: str = '') -> str:
    """A table as HTML.

    Args:
      header: cells as text; None for no header.
      rows: lists of cells as text.
      kind: its class: 'errors' for columns of numbers after two of text, and a last row of totals.
    """
    line = lambda cells, tag: (
        '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'
    )
    head = '' if header is None else f'<thead>{line(header, "th")}</thead>\n'
    body = ''.join(line(row, 'td') for row in rows)
    opening = f'<table class="{kind}">' if kind else '<table>'
    return f'<div class="table">{opening}\n{head}<tbody>{body}</tbody>\n</table></div>'


def image(picture: bytes, description: str) -> str:
    """A PNG picture as HTML."""
    data = base64.b64encode(picture).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{data}">'


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=130, bbox_inches='tight')
    return buffer.getvalue()


_STYLE = """
:root { color-scheme: light dark; }
body {
  font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
}
h1 { font-size: 1.2rem; font-weight: 600; }
.decision { font-size: 1.4rem; line-height: 1.35; margin: 0.3rem 0; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; background: white; border-radius: 6px; }
.table { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.25rem 0.8rem; text-align: left; border-bottom: 1px solid #8884; }
.errors td:nth-child(n+3), .errors th:nth-child(n+3) { text-align: right; }
.errors td { font-variant-numeric: tabular-nums; }
.errors tr:last-child td { font-weight: 600; border-top: 2px solid #8888; }
"""
