"""Letters, events that a replay of them has stored, the same without repeats, and letters that are not stored."""

import sys

import duckdb

base = sys.argv[1]
connection = duckdb.connect()
connection.execute(
    f"create table letters as select rid || '-' || index as id from read_ndjson_auto('{base}/letters/*.ndjson')"
)
connection.execute(f"create table events as select letter_id as id from read_ndjson_auto('{base}/events/**/*.ndjson')")
query = """
select (select count(*) from letters), count(*), count(distinct id),
    (select count(*) from letters where id not in (select id from events)) from events
"""
print(*connection.execute(query).fetchone())
