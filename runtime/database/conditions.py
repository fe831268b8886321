"""Conditions on the columns of a key that peewee has no short form for."""

import json
from collections.abc import Sequence

import peewee

from runtime.database.base import db


def among(key: peewee.Field, values: Sequence) -> peewee.Expression:
    """The condition that a primary key is one of these values, however many they are.

    They travel as one value, in JSON: with one for each, peewee takes longer than the database.
    """
    text = json.dumps([str(key.db_value(value)) for value in values])
    column_type = "uuid" if isinstance(key, peewee.UUIDField) else "text"
    return key.in_(peewee.SQL(db.AMONG.format(column_type), [text]))


def place_of(values: Sequence, fields: Sequence[peewee.Field]) -> peewee.Node:
    """The values of a row, to compare all of its columns with at once: `Tuple(a, b) > place`.

    An index is entered by that wherever it is; by `a >= …` alone only where rows differ in it.
    """
    pairs = zip(values, fields, strict=True)
    return peewee.Tuple(*(peewee.Value(value, converter=field.db_value) for value, field in pairs))
