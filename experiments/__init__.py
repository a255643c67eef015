"""Launchers: flags -> frozen config -> one library call. Run them from the repository's root."""
