"""Evaluation sets from what there is: files, records, columns, chat messages, Hugging Face datasets.

`items` and `predictions` turn a source into the rows that the service takes, one at a time; what cannot be used is
refused with its row, counted from 1. `Client.create_suite` and `Client.create_evaluation` call them by themselves.

A source is a path (.csv, .tsv, .json, .jsonl, .parquet), a list or any other iterable of records, a dictionary of
columns, or a Hugging Face `Dataset`.
"""

from tunescope.suites._files import UnreadableFile
from tunescope.suites._records import RowError, items, predictions

__all__ = ["RowError", "UnreadableFile", "items", "predictions"]
