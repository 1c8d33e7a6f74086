// Gives each case to Node's HTTP server, and prints what it took for requests: one line of JSON a case.

import { createServer } from 'node:http';
import { Duplex } from 'node:stream';
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

/** A connection on which everything is there at once, and no end. */
class Connection extends Duplex {
  constructor(input) {
    super();
    this.outcome = { requests: [], error: null };
    this.written = '';
    this.changes = 0;
    this.push(input);
  }

  _read() {}

  _write(chunk, _encoding, done) {
    this.written += chunk.toString('latin1');
    this.changes += 1;
    done();
  }

  setTimeout() {
    return this;
  }
}

const server = createServer((request, response) => {
  const connection = request.socket;
  const pieces = [];
  request.on('data', (piece) => {
    connection.changes += 1;
    pieces.push(piece);
  });
  request.on('end', () => {
    connection.changes += 1;
    const headers = [];
    for (let at = 0; at < request.rawHeaders.length; at += 2) {
      headers.push([request.rawHeaders[at], request.rawHeaders[at + 1]]);
    }
    connection.outcome.requests.push({
      method: request.method,
      target: request.url,
      version: request.httpVersion,
      headers,
      body: Buffer.concat(pieces).toString('base64'),
    });
    response.end();
  });
  request.on('error', () => {});
});
server.on('clientError', (error, connection) => {
  // The connection stays, so that requests before the fault come to their end.
  connection.outcome.error ??= error.code ?? error.message;
});

async function read(input) {
  const connection = new Connection(input);
  connection.on('error', () => {});
  server.emit('connection', connection);
  // Nothing waits for the world outside, so that a few rounds without a change are the end.
  for (let quiet = 0, seen = -1; quiet < 4; ) {
    await setImmediate();
    quiet = seen === connection.changes ? quiet + 1 : 0;
    seen = connection.changes;
  }
  const { outcome, written } = connection;
  const statuses = [...written.matchAll(/HTTP\/1\.1 ([2345]\d\d)/g)].map((found) => found[1]);
  const refused = statuses.findIndex((status) => status !== '200');
  if (refused !== -1) {
    // It may go on after a refusal of its own, for which there is no event.
    outcome.requests.length = Math.min(outcome.requests.length, refused);
    outcome.error ??= statuses[refused];
  }
  connection.destroy();
  return outcome;
}

console.log(JSON.stringify(`Node ${process.versions.node} (llhttp ${process.versions.llhttp})`));
for (const input of JSON.parse(readFileSync(process.argv[2]))) {
  console.log(JSON.stringify(await read(Buffer.from(input, 'base64'))));
}
process.exit();
