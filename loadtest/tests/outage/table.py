"""Prints what became of each client's events, with a spool and without one, and exits with 1 if a promise is broken.

    table.py WITH WITHOUT

Each is a directory with the patience.json and the audit.json of a run.
"""

import json
import pathlib
import sys

COLUMNS = ("acked", "given_up", "stored", "not_stored", "acked_not_stored", "stored_twice")


def rows(directory):
    """What became of the events of each client."""
    played = json.loads((directory / "patience.json").read_text())["clients"]
    audited = {of["profile"]: of for of in json.loads((directory / "audit.json").read_text())["profiles"]}
    for client in played:
        audit = audited[client["client"]]
        assert audit["sent"] == client["produced"], (client, audit)
        stored = sum(audit[kind + "_stored"] for kind in ("acked", "refused", "failed", "unanswered"))
        yield {
            "client": client["client"],
            "produced": client["produced"],
            "acked": client["acked"],
            "given_up": client["given_up"],
            "stored": stored,
            "not_stored": client["produced"] - stored,
            "acked_not_stored": audit["lost"],
            "stored_twice": audit["duplicated"],
        }


def total(table):
    return {"client": "all"} | {name: sum(row[name] for row in table) for name in ("produced", *COLUMNS)}


with_spool, without = (list(rows(pathlib.Path(directory))) for directory in sys.argv[1:])
print("| client | made | with a spool: acknowledged | not stored | stored twice | without: acknowledged | given up | **not stored** | stored twice |")
print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
for one, other in zip([*with_spool, total(with_spool)], [*without, total(without)], strict=True):
    cells = [one[name] for name in ("client", "produced", "acked", "not_stored", "stored_twice")]
    cells += [other[name] for name in ("acked", "given_up")] + [f"**{other['not_stored']}**", other["stored_twice"]]
    print("|", " | ".join(map(str, cells)), "|")

failures = []
for row in with_spool:
    if row["not_stored"]:
        failures.append(f"with a spool {row['not_stored']} events of {row['client']} are not stored")
for row in with_spool + without:
    if row["acked_not_stored"]:
        failures.append(f"{row['acked_not_stored']} acknowledged events of {row['client']} are not stored")
# A drill in which nobody loses anything was none.
if not any(row["not_stored"] for row in without):
    failures.append("without a spool nothing was lost: the destination was not away")
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(bool(failures))
