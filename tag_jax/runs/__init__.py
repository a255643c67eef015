"""Files that runs leave on disk: folders, checkpoints, score tables and exported functions."""
