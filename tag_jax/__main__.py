"""`python -m tag_jax` is `tag-jax`."""

from tag_jax.launchers import command

if __name__ == '__main__':
    command.main()
