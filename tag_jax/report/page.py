"""Pages that need no other file: templates filled by Jinja2, which escapes what a user names."""

import base64
import functools
import io
from typing import Any

import jinja2
from matplotlib.figure import Figure

from tag_jax.report import styles


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
    return page.render(title=title, command=command, palette=styles.PALETTE, **values)


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=130, bbox_inches='tight')
    return buffer.getvalue()


def data_url(picture: bytes) -> str:
    """A PNG picture as the address of an image inside a page."""
    return f'data:image/png;base64,{base64.b64encode(picture).decode()}'


def number(text: str) -> str:
    """The text of a number with the minus of print, which is as wide as a plus."""
    return text.replace('-', '\N{MINUS SIGN}')
