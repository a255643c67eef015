"""Mends that errors about a column name: as arguments of `data.table`, and as flags."""

import shlex


def flag(option: str, value: str) -> str:
    """A flag with one value of a list, as it stands in a shell.

    Args:
      option: the name of the flag.
      value: text; what a list flag or a shell would take apart is quoted.
    """
    if ',' in value or '"' in value:
        value = '"' + value.replace('"', '""') + '"'
    return f'--{option}={shlex.quote(value)}'


def leave_out(name: str) -> str:
    """Says how to leave a column out."""
    return f'leave it out (leave_out=[{name!r}], {flag("leave_out", name)})'


def give_kind(name: str, kind: str) -> str:
    """Says how to give a column a kind."""
    given = flag('kinds', f'{name}:{kind}')
    return f'give it the kind {kind} (kinds={{{name!r}: {kind!r}}}, {given})'


def keep_together(name: str) -> str:
    """Says how to keep the rows of each value of a column in one split."""
    return f'keep its rows together (groups={name!r}, --groups={shlex.quote(name)})'


def count_days(name: str) -> str:
    """Says how to turn the dates in a column of a DataFrame into numbers."""
    return (
        f'turn them into numbers, such as days since 1970: (frame[{name!r}] - pandas.Timestamp(0)) '
        '/ pandas.Timedelta(days=1)'
    )


def declare_missing(name: str, cell: str) -> str:
    """Says how to declare that a cell is missing; the flag cannot say it of a cell with a colon."""
    given = '' if ':' in cell else f', {flag("missing", f"{name}:{cell}")}'
    return f'declare it missing (missing={{{name!r}: [{cell!r}]}}{given})'


def read_with(option: str, character: str) -> str:
    """Says how a file is read with another character, such as a decimal comma."""
    given = 'tab' if character == '\t' else shlex.quote(character)
    return f'{option}={character!r} (--{option}={given})'
