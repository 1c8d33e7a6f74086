"""Reads each case as a server built on h11 does, and prints what it took for requests: one line of JSON a case."""

import base64
import json
import sys

import h11


def read(data):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    requests, error = [], None
    head, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                requests.append(
                    {
                        "method": head.method.decode("latin-1"),
                        "target": head.target.decode("latin-1"),
                        "version": head.http_version.decode("latin-1"),
                        "headers": [
                            [name.decode("latin-1"), value.decode("latin-1")]
                            for name, value in head.headers.raw_items()
                        ],
                        "body": base64.b64encode(body).decode(),
                    }
                )
                # Not 200, which would make a tunnel of a CONNECT.
                connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    break
                connection.start_next_cycle()
            else:
                # It wants more bytes, or no more.
                break
    except h11.RemoteProtocolError as refusal:
        error = str(refusal)
    return {"requests": requests, "error": error}


with open(sys.argv[1], encoding="ascii") as cases:
    print(json.dumps(f"h11 {h11.__version__}"))
    for case in json.load(cases):
        print(json.dumps(read(base64.b64decode(case))))
