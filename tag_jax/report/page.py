"""Pages that need no other file: templates filled by Jinja2, which escapes what a user names."""

import base64
import functools
import io
import re
from typing import Any

import jinja2
import markupsafe
from matplotlib.figure import Figure

from tag_jax.report import styles

# Templates name the place of the table of contents by `contents`.
CONTENTS = '<!-- contents -->'


@functools.cache
def _environment():
    return jinja2.Environment(
        loader=jinja2.PackageLoader('tag_jax.report'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def render(template: str, title: str, command: str | None = None, **values: Any) -> str:
    """A whole page.

    Args:
      template: its name, in the folder templates.
      title: of the page.
      command: repeats what the page is about; None if it is not known.
      **values: that the template asks for. Text is escaped; `markupsafe.Markup` is not.
    """
    page = _environment().get_template(template)
    values |= {'title': title, 'command': command, 'contents': markupsafe.Markup(CONTENTS)}
    return _with_contents(page.render(palette=styles.PALETTE, **values))


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=130, bbox_inches='tight')
    return buffer.getvalue()


def data_url(data: bytes, kind: str = 'image/png') -> str:
    """The bytes of a file as an address inside a page.

    Args:
      data: the bytes.
      kind: its media type.
    """
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'


def _with_contents(text):
    """A page whose titles can be gone to, with a table of contents where it is asked for."""
    titles = []

    def named(match):
        plain = re.sub(r'<[^>]+>', '', match[1])
        titles.append((f'part-{len(titles) + 1}', plain))
        return f'<h2 id="{titles[-1][0]}">{match[1]}</h2>'

    text = re.sub(r'<h2>(.*?)</h2>', named, text)
    links = ''.join(f'<li><a href="#{name}">{title}</a></li>' for name, title in titles)
    return text.replace(CONTENTS, f'<nav aria-label="Contents"><ul>{links}</ul></nav>')


def number(text: str) -> str:
    """The text of a number with the minus of print, which is as wide as a plus."""
    return text.replace('-', '\N{MINUS SIGN}')
