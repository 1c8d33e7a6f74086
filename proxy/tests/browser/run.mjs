// The web SDK as it is published, in a real browser, on a page of another origin: events that the page
// made against events that the stream has. Called by .ci/browser, which names everything by variables; with a
// CERTIFICATE and its KEY, events go over TLS. With OUTAGE_S, the stream is away for so many seconds, and Sluice, which
// has a spool then, is killed meanwhile.
//
// Judges by ids: each event that a page makes has a number of its own, and the stream is read back
// with the service's own calls.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const { BIN, TOOLS, CHROMIUM, CERTIFICATE, KEY, OUTAGE_S } = process.env;
const puppeteer = createRequire(join(TOOLS, 'x'))('puppeteer-core');
const sdk = readFileSync(join(TOOLS, 'sdk.js'));

const PATIENCE_MS = 20_000;
const dir = mkdtempSync(join(tmpdir(), 'sluice-browser-'));
const children = [];

// Starts a program, and resolves with the first match in what it says.
function start(name, args, stream, pattern, env = {}) {
  const child = spawn(join(BIN, name), args, {
    cwd: dir,
    env: { PATH: process.env.PATH, HOME: dir, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let said = '';
  return new Promise((resolve, reject) => {
    const hear = (text) => {
      said += text;
      const match = pattern.exec(said);
      if (match) resolve(match[1]);
    };
    child[stream].on('data', hear);
    child[stream === 'stdout' ? 'stderr' : 'stdout'].on('data', () => {});
    child.on('exit', (code) => reject(new Error(`${name} ended with ${code}: ${said}`)));
  });
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, holds, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  while (!(await holds())) {
    assert(Date.now() < end, `${what} did not come to hold in ${patience} ms`);
    await sleep(50);
  }
}

const emulator = await start(
  'sluice-loadtest', ['kinesis', '--listen', '127.0.0.1:0', '--shards', '2', '--no-shard-limits'], 'stdout', /listening on (\S+)/);

async function call(operation, body) {
  const answer = await fetch(`http://${emulator}/`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `Kinesis_20131202.${operation}` },
    body: JSON.stringify({ StreamName: 'clicks', ...body }),
  });
  assert.equal(answer.status, 200, operation);
  return answer.json();
}

const faults = async (json) => {
  const answer = await fetch(`http://${emulator}/_faults`, { method: 'POST', body: JSON.stringify(json) });
  assert.equal(answer.status, 200);
};

// Every number in the stream, as often as it is there.
async function stored() {
  const numbers = [];
  const { Shards } = await call('ListShards', {});
  for (const { ShardId } of Shards) {
    let { ShardIterator } = await call('GetShardIterator', { ShardId, ShardIteratorType: 'TRIM_HORIZON' });
    for (;;) {
      const { Records, NextShardIterator } = await call('GetRecords', { ShardIterator, Limit: 10_000 });
      for (const { Data } of Records) {
        const record = JSON.parse(Buffer.from(Data, 'base64').toString());
        assert.notEqual(record.method, 'OPTIONS');
        const events = typeof record.data === 'string' ? [JSON.parse(record.data)].flat() : [record];
        for (const event of events) {
          const number = event.attributes?.number ?? event.number;
          if (number !== undefined) numbers.push(Number(number));
        }
      }
      if (Records.length === 0) break;
      ShardIterator = NextShardIterator;
    }
  }
  return numbers.sort((a, b) => a - b);
}

const pages = createServer((request, response) => {
  const script = request.url === '/sdk.js';
  response.setHeader('content-type', script ? 'text/javascript' : 'text/html');
  response.end(script ? sdk : '<!doctype html><title>shop</title><script src="/sdk.js"></script>');
});
await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
const { port } = pages.address();
const allowed = `http://127.0.0.1:${port}`;
const other = `http://localhost:${port}`;

const secured = CERTIFICATE === undefined ? '' : `
[listen]
tls_certificate_files = ["${CERTIFICATE}"]
tls_key_files = ["${KEY}"]`;
const spool = OUTAGE_S === undefined ? '' : `
[outputs.clicks.spool]
dir = "spool"
after_ms = 300`;
writeFileSync(join(dir, 'sluice.toml'), `${secured}
[admin]
address = "off"
[cors]
origins = ["${allowed}"]
[outputs.clicks]
type = "kinesis"
stream = "clicks"
endpoint_url = "http://${emulator}"${spool}
`);
const serve = (listen) => start(
  'sluice', ['run', '--listen', listen, '--config', 'sluice.toml'], 'stderr',
  /accepting requests address=(\S+)/,
  { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'us-east-1', AWS_EC2_METADATA_DISABLED: 'true' });
const address = await serve('127.0.0.1:0');
const base = `${secured ? 'https' : 'http'}://${address}`;
const endpoint = `${base}/collect`;

// The certificate is its own authority.
const ignore = secured ? ['--ignore-certificate-errors'] : [];
const browser = await puppeteer.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', ...ignore] });
// Of answers to events.
const protocols = new Set();

async function open(origin) {
  const page = await browser.newPage();
  page.refused = [];
  page.on('console', (message) => {
    if (message.text().includes('CORS')) page.refused.push(message.text());
  });
  const network = await page.createCDPSession();
  network.on('Network.responseReceived', ({ response }) => {
    if (response.url.startsWith(base)) protocols.add(response.protocol);
  });
  await network.send('Network.enable');
  await page.goto(`${origin}/`);
  return page;
}

let next = 0;
const numbers = (count) => Array.from({ length: count }, () => next++);

const init = (page, mode, interval) => page.evaluate((endpoint, mode, interval) => {
  window.ClickstreamAnalytics.init({
    appId: 'shop', endpoint, sendMode: window.SendMode[mode], sendEventsInterval: interval,
    isTrackPageViewEvents: false, isTrackScrollEvents: false, isTrackClickEvents: false,
  });
}, endpoint, mode, interval);

const record = (page, numbers) => page.evaluate((numbers) => {
  for (const number of numbers) {
    window.ClickstreamAnalytics.record({ name: 'bought', attributes: { number } });
  }
}, numbers);

const has = async (wanted) => {
  const found = new Set(await stored());
  return wanted.every((number) => found.has(number));
};

async function once(what, wanted) {
  await until(`${what}: every event is stored`, () => has(wanted));
  const found = await stored();
  for (const number of wanted) {
    assert.equal(found.filter((one) => one === number).length, 1, `${what}: event ${number}`);
  }
  console.log(`${what}: ${wanted.length} made, ${wanted.length} stored, each once`);
}

const scenarios = {
  async 'immediate mode'() {
    const page = await open(allowed);
    await init(page, 'Immediate', 0);
    const made = numbers(20);
    await record(page, made);
    await once('immediate mode', made);
    assert.deepEqual(page.refused, []);
    await page.close();
  },

  async 'batch mode'() {
    const page = await open(allowed);
    await init(page, 'Batch', 500);
    const made = numbers(200);
    await record(page, made);
    await once('batch mode', made);
    assert.deepEqual(page.refused, []);
    await page.close();
  },

  // What the SDK still holds goes out by a keep-alive fetch whose answer nobody reads.
  async 'closed page'() {
    const page = await open(allowed);
    await init(page, 'Batch', 3_600_000);
    const made = numbers(50);
    await record(page, made);
    assert.equal(await has(made), false, 'nothing is sent before the page closes');
    await page.close({ runBeforeUnload: true });
    await once('closed page', made);
  },

  // 503 is kept by the SDK and sent again; the stream had none of it the first time.
  async 'failing stream'() {
    const page = await open(allowed);
    await init(page, 'Immediate', 0);
    await faults({ access_denied: 1 });
    const failed = page.waitForResponse((answer) => answer.status() === 503, { timeout: PATIENCE_MS });
    const made = numbers(5);
    await record(page, made);
    await failed;
    assert.equal(await has(made.slice(0, 1)), false);
    // All tries of all events.
    await page.waitForNetworkIdle({ idleTime: 1_000, timeout: PATIENCE_MS });
    await faults({});
    // Kept in the page's storage: the next visit sends it.
    await page.reload();
    await init(page, 'Immediate', 0);
    const more = numbers(1);
    await record(page, more);
    await once('failing stream', [...made, ...more]);
    assert.deepEqual(page.refused, []);
    await page.close();
  },

  async 'origin that is not allowed'() {
    const page = await open(other);
    await init(page, 'Immediate', 0);
    const made = numbers(3);
    await record(page, made);
    await until('the browser refuses', () => page.refused.length > 0);
    await page.waitForNetworkIdle({ idleTime: 1_000, timeout: PATIENCE_MS });
    const found = await stored();
    assert.deepEqual(made.filter((number) => found.includes(number)), []);
    console.log(`origin that is not allowed: ${made.length} made, 0 sent by the browser`);
    await page.close();
  },

  // What needs no permission works from any origin, and says nothing back.
  async 'beacon, no-cors fetch and image'() {
    for (const origin of [allowed, other]) {
      const page = await open(origin);
      const made = numbers(7);
      const taken = await page.evaluate(async (base, made) => {
        const event = (number) => JSON.stringify({ event_type: 'left', number });
        const taken = [
          navigator.sendBeacon(`${base}/collect?appId=shop`, `[${event(made[0])}]`),
          navigator.sendBeacon(`${base}/v1/events`, event(made[1])),
        ];
        for (const [path, body] of [
          ['/collect?appId=shop', `[${event(made[2])}]`],
          ['/v1/events', `${event(made[3])}\n${event(made[4])}`],
          ['/v1/events', `[${event(made[5])}]`],
        ]) {
          const answer = await fetch(base + path, { method: 'POST', mode: 'no-cors', body });
          taken.push(answer.type === 'opaque');
        }
        const image = new Image();
        image.src = `${base}/i?event_type=left&number=${made[6]}`;
        await image.decode();
        taken.push(image.naturalWidth === 1);
        return taken;
      }, base, made);
      assert(taken.every(Boolean), JSON.stringify(taken));
      await once(`beacon, no-cors fetch and image from ${origin === allowed ? 'an allowed' : 'another'} origin`, made);
      await page.close();
    }
  },
};

// SIGKILL, and a start at the same address.
async function kill() {
  const sluice = children.pop();
  sluice.removeAllListeners('exit');
  const ended = new Promise((resolve) => sluice.once('exit', resolve));
  sluice.kill('SIGKILL');
  await ended;
  await serve(address);
}

const outage = {
  async [`stream away for ${OUTAGE_S} s`]() {
    const away = Number(OUTAGE_S);
    assert(away > 0 && away <= 3_600, 'OUTAGE_S is 1 to 3600');
    const immediate = await open(allowed);
    await init(immediate, 'Immediate', 0);
    const batched = await open(allowed);
    await init(batched, 'Batch', 1_000);
    const made = [];
    let closed = 0;
    let kills = 0;
    await faults({ gone: true, from_s: 10, for_s: away });
    // Ten seconds before the outage, ten after it. A visit begins and ends every 15 s, a kill comes every 20 s.
    for (let second = 0; second < away + 20; second += 1) {
      const next = sleep(1_000);
      for (const page of [immediate, batched]) {
        const some = numbers(5);
        await record(page, some);
        made.push(...some);
      }
      if (second % 15 === 7) {
        const visit = await open(allowed);
        await init(visit, 'Batch', 3_600_000);
        const some = numbers(5);
        await record(visit, some);
        made.push(...some);
        await visit.close({ runBeforeUnload: true });
        closed += 1;
      }
      if (second % 20 === 19) {
        await kill();
        kills += 1;
      }
      await next;
    }
    // What a request that was cut by a kill carried is kept in the page's storage: the next visit sends it.
    for (const [page, mode] of [[immediate, 'Immediate'], [batched, 'Batch']]) {
      await page.reload();
      await init(page, mode, 1_000);
      const some = numbers(1);
      await record(page, some);
      made.push(...some);
    }
    let found;
    const left = () => made.filter((number) => !found.has(number));
    await until('every event is stored', async () => {
      found = new Set(await stored());
      return left().length === 0;
    }, 60_000).catch((error) => {
      console.error(`produced - stored = ${left().length}: ${left().slice(0, 20)}`);
      throw error;
    });
    const copies = (await stored()).length - found.size;
    console.log(`stream away for ${away} s, ${kills} kills, ${closed} pages closed in between: ${made.length} made, `
      + `${found.size} stored, produced - stored = 0, ${copies} copies`);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(OUTAGE_S === undefined ? scenarios : outage)) {
  try {
    await run();
  } catch (error) {
    failed += 1;
    console.error(`${name}: ${error.stack}`);
  }
}
await browser.close();
const spoken = [...protocols].join(', ');
console.log(`events went over ${spoken}`);
if (spoken !== (secured ? 'h2' : 'http/1.1')) failed += 1;
pages.close();
for (const child of children) {
  child.removeAllListeners('exit');
  child.kill();
}
rmSync(dir, { recursive: true, force: true });
process.exit(failed === 0 ? 0 : 1);
