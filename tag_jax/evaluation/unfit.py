"""The errors that a model and data which do not fit each other end in."""

import flax.errors

UNFIT = (TypeError, ValueError, flax.errors.FlaxError)


def first_line(error):
    """The first line of an error, without the address that Flax adds."""
    return (str(error) or type(error).__name__).splitlines()[0].split(' (https://')[0]
