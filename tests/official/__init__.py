"""Small datasets in the formats in which the papers' datasets are distributed."""
