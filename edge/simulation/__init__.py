"""A rendered web with planted defects, seen by a camera under four strobed line lights."""
