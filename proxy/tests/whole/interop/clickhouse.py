"""Asks ClickHouse: clickhouse.py <endpoint> <user> <password> <query>  prints the answer."""

import sys
import urllib.request

endpoint, user, password, query = sys.argv[1:]
headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}
request = urllib.request.Request(endpoint, data=query.encode(), headers=headers)
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=30).read())
