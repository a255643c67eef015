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
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n'
        f'</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n'
    )


def table(header: Sequence[str] | None, rows: Sequence[Sequence[str]], kind: str = '') -> str:
    """A table as HTML.

    Args:
      header: cells as text; None for no header.
      rows: lists of cells as text.
      kind: its classes: 'errors' for columns of numbers after two of text, and a last row of
        totals; 'numbers' for cells on one line; 'totals' for a last row of totals.
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


def to_repeat(command: str | None) -> str:
    """The command that repeats a run, under its title; '' if it is not known.

    Args:
      command: as text, or None.
    """
    return f'<h2>To repeat it</h2>\n<pre>{html.escape(command)}</pre>' if command else ''


def number(text: str) -> str:
    """The text of a number with the minus of print, which is as wide as a plus."""
    return text.replace('-', '\N{MINUS SIGN}')


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=130, bbox_inches='tight')
    return buffer.getvalue()


# Colours of text and networks keep 4.5 : 1 against the page behind them, in both modes.
_STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --text: #1b1f24; --muted: #57606a; --rule: #d0d7de; --panel: #f3f5f7;
  --helps: 33 102 172; --harms: 178 24 43;
  --n1: #0069a8; --n2: #b84a00; --n3: #00775a; --n4: #a23c82; --n5: #7a6200; --n6: #5a4fcf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --text: #e6e9ed; --muted: #9ba5b0; --rule: #3a424b; --panel: #1e2329;
    --helps: 80 150 225; --harms: 230 85 90;
    --n1: #5cb6f2; --n2: #ff9a55; --n3: #45cfa4; --n4: #eb9fcf; --n5: #dcc24a; --n6: #aaa5ff;
  }
}
* { box-sizing: border-box; }
body {
  font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 64rem; margin: 1rem auto 3rem; padding: 0 1rem; overflow-wrap: break-word;
}
h1 { font-size: 1rem; font-weight: 600; color: var(--muted); margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.4rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 0.2rem; }
.decision { font-size: 1.4rem; line-height: 1.3; margin: 0.4rem 0; overflow-wrap: anywhere; }
p.decision { font-weight: 600; }
ol.decision { padding-left: 1.6rem; }
ol.decision li::marker { font-weight: 600; }
.many { font-size: 1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0.6rem; }
.facts { margin: 0.8rem 0; }
.facts div { background: var(--panel); border-radius: 6px; padding: 0.5rem 0.8rem; }
.facts dt { color: var(--muted); font-size: 0.85rem; }
.facts dd { margin: 0; font-size: 0.95rem; line-height: 1.4; }
.facts b { display: block; font-size: 1.25rem; }
img { max-width: 100%; height: auto; background: white; border-radius: 6px; }
pre {
  background: var(--panel); border-radius: 6px; padding: 0.6rem 0.8rem; font-size: 0.9rem;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.table { overflow-x: auto; }
thead th { vertical-align: bottom; }
table { border-collapse: collapse; }
th, td { padding: 0.25rem 0.8rem; text-align: left; border-bottom: 1px solid var(--rule); }
td { vertical-align: top; }
td:last-child { overflow-wrap: anywhere; }
.errors td:last-child { overflow-wrap: normal; }
.errors td:nth-child(n+3), .errors th:nth-child(n+3) { text-align: right; }
.numbers td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.totals tr:last-child td { font-weight: 600; border-top: 2px solid var(--rule); }
.errors td { font-variant-numeric: tabular-nums; }
.errors tr:last-child td { font-weight: 600; border-top: 2px solid var(--rule); }
.heat { font-size: 0.85rem; }
.heat th { border: 0; font-weight: 400; padding: 0.1rem 0.5rem; vertical-align: bottom; }
.heat tbody th {
  text-align: right; vertical-align: middle; white-space: nowrap; position: sticky; left: 0;
  background: var(--page);
}
.heat thead span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.heat thead td { border: 0; }
.heat tbody td {
  border: 1px solid var(--page); padding: 0.15rem 0.3rem; text-align: center; min-width: 3.2rem;
  vertical-align: middle;
  line-height: 1.25; font-variant-numeric: tabular-nums; white-space: nowrap;
}
.heat small { display: block; font-size: 0.72rem; }
.heat .first { border-left: 3px solid var(--text); }
.heat .below td { border-top: 3px solid var(--text); }
.heat .none { background: var(--panel); }
.dense { font-size: 0.7rem; }
.dense tbody td { min-width: 1rem; height: 1rem; padding: 0; }
.dense tbody th { padding: 0 0.3rem; }
.dense thead th { padding: 0; }
.dense .first { border-left-width: 2px; }
.helps { background: rgb(var(--helps) / calc(0.6 * var(--strength))); }
.harms { background: rgb(var(--harms) / calc(0.6 * var(--strength))); }
.scale span { white-space: nowrap; }
.scale { display: flex; gap: 0.6rem; align-items: center; font-size: 0.85rem; }
.scale i {
  flex: 0 1 12rem; height: 0.8rem;
  background: linear-gradient(90deg, rgb(var(--harms) / 0.6), transparent, rgb(var(--helps) / 0.6));
}
.charts { display: grid; gap: 0.5rem 1.2rem; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.wide { grid-template-columns: minmax(0, 30rem); }
figure { margin: 0; }
figcaption { font-size: 0.9rem; font-weight: 600; overflow-wrap: anywhere; }
svg { max-width: 100%; }
.chart { display: block; width: 100%; }
svg text { font: 11px system-ui, sans-serif; fill: var(--text); }
.diagram { height: auto; }
.diagram text { font-size: 14px; }
.diagram .inside { fill: var(--page); font-weight: 600; }
svg .middle { text-anchor: middle; }
svg .end { text-anchor: end; }
svg path { fill: none; stroke: var(--ink); stroke-width: 2; stroke-linejoin: round; }
svg rect, svg circle { fill: var(--ink); }
svg .thin { stroke-width: 1; opacity: 0.45; }
svg .dashed { stroke-dasharray: 6 3; }
svg .help { stroke-dasharray: 2 4; }
.grid { stroke: var(--rule); }
.zero { stroke: var(--text); }
.key { list-style: none; padding: 0; margin: 0.4rem 0; font-size: 0.9rem; }
.key { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; }
.n1 { --ink: var(--n1); } .n2 { --ink: var(--n2); } .n3 { --ink: var(--n3); }
.n4 { --ink: var(--n4); } .n5 { --ink: var(--n5); } .n6 { --ink: var(--n6); }
.other { --ink: var(--muted); } .all { --ink: var(--text); }
@media (max-width: 30rem) {
  .decision { font-size: 1.15rem; }
  .many { font-size: 0.85rem; }
  th, td { padding: 0.2rem 0.4rem; }
  .heat { font-size: 0.7rem; }
  .heat tbody td { min-width: 2.3rem; padding: 0.1rem; }
  .heat th { padding: 0.1rem 0.25rem; }
  .errors { font-size: 0.75rem; }
  .errors td, .errors th { padding: 0.2rem 0.3rem; }
  .heat small { font-size: 0.6rem; }
  .heat tbody th { max-width: 7.5rem; overflow: hidden; text-overflow: ellipsis; }
  .dense tbody td { min-width: 0.8rem; }
}
@media print { .table { overflow: visible; } }
"""
