"""The papers' own numbers: data in data/paper/, never typed into a notebook; the README there names the sources."""

import pandas as pd

from lib import paths
from lib.errors import UserError


def read(name: str) -> pd.DataFrame:
    """The rows of data/paper/<name>.csv as published; an empty cell, a number the paper does not give, is NaN.

    Raises `UserError` for a file that is not there or cannot be parsed.
    """
    path = paths.PAPER / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in paths.PAPER.glob("*.csv"))) or "nothing"
        raise UserError(f"{paths.relative(path)}: no such file; data/paper/ holds {known}")
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{paths.relative(path)}: {reason}; restore it with git") from error
