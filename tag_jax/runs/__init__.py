"""What runs leave on disk: their folders, checkpoints, score tables and exported functions."""
