"""What commands print."""

import json
from datetime import UTC, datetime, timedelta, timezone

from runtime.cli.output import parts, table, text, to_json

AT = datetime(2026, 11, 22, 18, 15, 30, 123456, tzinfo=timezone(timedelta(hours=8)))


def test_a_table_has_a_head_and_columns_as_wide_as_they_must_be():
    rows = [{"name": "ada", "signed_in": AT}, {"name": "somebody", "signed_in": None}]

    assert table(rows, ("name", "signed_in")).splitlines() == [
        "name      signed in",
        "ada       2026-11-22 10:15 UTC",
        "somebody  -",
    ]


def test_a_table_without_rows_is_its_head():
    assert table([], ("name", "signed_in")) == "name  signed in"


def test_parts_stand_under_each_other():
    assert parts({"id": "x", "is_it": True}).splitlines() == ["id     x", "is it  yes"]


def test_values_are_for_a_person_to_read():
    values = (None, True, False, 0, 1, "x", AT)

    assert [text(value) for value in values] == [
        *("-", "yes", "no", "0", "1", "x", "2026-11-22 10:15 UTC")
    ]


def test_json_is_for_a_program_to_read():
    found = json.loads(to_json({"at": AT, "name": "艾达", "none": None, "count": 1}))

    assert found == {"at": "2026-11-22T10:15:30.123Z", "name": "艾达", "none": None, "count": 1}
    assert datetime.fromisoformat(found["at"]).tzinfo == UTC
