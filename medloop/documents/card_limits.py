"""Limits of a model package's card (`package_card` has its whole schema)."""

MAX_DETAIL = 1024
"""Characters of a value of `custom_details`."""
MAX_AXIS_NAME = 63
"""Characters of the name of an axis, or of a bar or a row."""
MAX_PARAMETER = 255
"""Characters of a hyperparameter's or a metric's name or value."""
MAX_MATRIX = 20
"""Rows and columns of a matrix."""
