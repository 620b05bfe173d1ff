"""Reading a database: what it takes of a process's memory, and what is told of a refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from sqlalchemy import URL

from hejin_trust.errors import HejinError

_PROGRAM = """
import json, os, sys
from sqlalchemy import make_url
from hejin_node.errors import IngestError
from hejin_node.source_sql import open_query
from hejin_node.sources import Query, silent
import psycopg, pymysql

def kilobytes(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

query, columns = json.loads(sys.argv[1])
before, said = kilobytes("VmRSS"), ""
try:
    source = open_query(make_url(os.environ["BOOKS"]), Query(**query), columns, {}, None)
    rows = sum(block.table.num_rows for block in source.blocks(None, silent))
except IngestError as reason:
    rows, said = 0, str(reason)
print(json.dumps([(kilobytes("VmHWM") - before) // 1024, rows, said]))
"""


def read(url: URL, query: dict[str, str], columns: Sequence[str]) -> tuple[int, int, str]:
    """Read a query's rows twice, as ingest does; return megabytes more at most, rows, refusal."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM, json.dumps([query, columns])],
        env={**os.environ, "BOOKS": url.render_as_string(hide_password=False)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stderr == ""
    more, rows, said = json.loads(process.stdout)
    return more, rows, said


def both(reason: HejinError) -> str:
    """Return what is told in both languages."""
    return reason.text.en + reason.text.zh
