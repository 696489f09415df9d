// The servers of the test's own internet (see world.sh): DNS, HTTP, HTTPS, an HTTP proxy,
// TCP and UDP sinks. They write what they saw to DIR/record.jsonl, one JSON object a line,
// take commands as JSON lines on stdin, answer each with one line on stdout, and end with
// their stdin, that is: with the test.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import readline from 'node:readline';

const [dir, role = 'internet'] = process.argv.slice(2);
const started = process.hrtime.bigint();
const record = (server, what) =>
  fs.appendFileSync(`${dir}/record.jsonl`, `${JSON.stringify({
    server, at: Date.now(), ...what })}\n`);
const plain = (address) => (address ?? '').replace(/^::ffff:/, '');
const local = (socket) => `${plain(socket.localAddress)}:${socket.localPort}`;
const quiet = (socket) => socket.on('error', () => {});

// --- DNS ---------------------------------------------------------------------------------

const zone = new Map();
const turn = new Map();
const TYPES = { 1: 'A', 2: 'NS', 5: 'CNAME', 6: 'SOA', 12: 'PTR', 15: 'MX', 16: 'TXT', 28: 'AAAA', 33: 'SRV', 65: 'HTTPS', 255: 'ANY' };

function entry(name) {
  if (zone.has(name)) return zone.get(name);
  const dot = name.indexOf('.');
  return dot < 0 ? undefined : zone.get(`*${name.slice(dot)}`);
}

function addresses(name, found, type) {
  if (type === 'AAAA') return found.aaaa ?? [];
  if (type !== 'A') return [];
  if (!found.turns) return found.a ?? [];
  const n = turn.get(name) ?? 0;
  turn.set(name, n + 1);
  return found.turns[Math.min(n, found.turns.length - 1)];
}

function wire(name) {
  const labels = name.split('.').filter(Boolean).map((l) => Buffer.from(l, 'latin1'));
  return Buffer.concat([...labels.flatMap((l) => [Buffer.from([l.length]), l]), Buffer.from([0])]);
}

function v6(address) {
  const [head, tail] = address.split('::').map((p) => p.split(':').filter(Boolean));
  const all = tail ? [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail] : head;
  return Buffer.from(all.flatMap((g) => [parseInt(g, 16) >> 8, parseInt(g, 16) & 255]));
}

function rr(name, code, data, ttl) {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(code, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([wire(name), fixed, data]);
}

// The answer to one question, or null for a name that never answers and for what is no question.
function answer(query, proto, server, from) {
  try {
    return reply(query, proto, server, from);
  } catch (error) {
    record(server, { proto, malformed: query.toString('hex', 0, 64), error: String(error) });
    return null;
  }
}

function reply(query, proto, server, from) {
  let at = 12;
  const labels = [];
  while (query[at]) {
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]));
    at += query[at] + 1;
  }
  const asked = labels.join('.');
  const type = TYPES[query.readUInt16BE(at + 1)] ?? String(query.readUInt16BE(at + 1));
  const end = at + 5;
  // EDNS: the first additional record, where there is no other.
  const edns = query.readUInt16BE(10) > 0 && query[end] === 0 && query.readUInt16BE(end + 1) === 41;
  const size = edns ? Math.max(512, query.readUInt16BE(end + 3)) : 512;
  record(server, { proto, name: asked.toLowerCase(), asked, type, from: plain(from) });

  const answers = [];
  let name = asked.toLowerCase(), found = entry(name), rcode = 0, delay = 0, never = false;
  for (let hops = 0; ; hops += 1) {
    if (!found) { rcode = 3; break; }
    rcode = found.rcode ?? 0;
    delay += found.delay ?? 0;
    never ||= found.never === true || found.never === proto;
    if (found.cname && hops < 32) {
      answers.push(rr(hops ? name : asked, 5, wire(found.cname), 60));
      if (type === 'CNAME') break;
      name = found.cname.toLowerCase();
      found = entry(name);
      continue;
    }
    for (const address of addresses(name, found, type)) {
      answers.push(rr(hops ? name : asked, type === 'A' ? 1 : 28,
        type === 'A' ? Buffer.from(address.split('.').map(Number)) : v6(address), found.ttl ?? 60));
    }
    if (type === 'TXT' && found.txt) {
      const text = Buffer.from(found.txt);
      answers.push(rr(name, 16, Buffer.concat([Buffer.from([text.length]), text]), 60));
    }
    break;
  }
  if (never) return null;
  let body = Buffer.concat(answers), count = answers.length, truncated = 0;
  if (proto === 'udp' && end + body.length > size) [body, count, truncated] = [Buffer.alloc(0), 0, 0x0200];
  const head = Buffer.from(query.subarray(0, 12));
  head.writeUInt16BE(0x8480 | truncated | (head.readUInt16BE(2) & 0x0100) | rcode, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(count, 6);
  head.writeUInt32BE(0, 8);
  return { message: Buffer.concat([head, query.subarray(12, end), body]), delay };
}

function dns(server, address) {
  const udp = createSocket(net.isIPv6(address) ? { type: 'udp6', ipv6Only: true } : 'udp4');
  udp.on('message', (query, peer) => {
    const found = answer(query, 'udp', server, peer.address);
    if (found) setTimeout(() => udp.send(found.message, peer.port, peer.address), found.delay);
  });
  const tcp = net.createServer((socket) => {
    let buffer = Buffer.alloc(0);
    quiet(socket).on('data', (data) => {
      buffer = Buffer.concat([buffer, data]);
      while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
        const query = buffer.subarray(2, 2 + buffer.readUInt16BE(0));
        buffer = buffer.subarray(2 + query.length);
        const found = answer(query, 'tcp', server, socket.remoteAddress);
        if (!found) continue;
        const length = Buffer.from([found.message.length >> 8, found.message.length & 255]);
        setTimeout(() => socket.write(Buffer.concat([length, found.message])), found.delay);
      }
    });
  });
  return Promise.all([
    new Promise((ready) => udp.bind(53, address, ready)),
    new Promise((ready) => tcp.listen(53, address, ready)),
  ]);
}

// --- HTTP --------------------------------------------------------------------------------

let registry = null; // the port of verdaccio on this namespace's loopback

function serve(request, response) {
  const socket = request.socket;
  const parts = [];
  let length = 0;
  request.on('data', (data) => { length += data.length; if (length < 1e6) parts.push(data); });
  request.on('end', () => {
    const host = request.headers.host ?? '';
    const body = Buffer.concat(parts);
    record('http', {
      role, method: request.method, host, path: request.url, tls: !!socket.encrypted, sni: socket.servername || null,
      local: local(socket), from: plain(socket.remoteAddress), bytes: length, body: body.toString('latin1', 0, 300),
      authorization: request.headers.authorization ?? null,
    });
    if (registry && /^(registry|npm)[.-]/.test(host)) return relay(request, response, body, host);
    const url = new URL(request.url, 'http://x');
    const big = /^\/big\/(\d+)$/.exec(url.pathname);
    if (big) return response.end(Buffer.alloc(Number(big[1]), 'x'));
    const moved = url.searchParams.get('to');
    if (url.pathname === '/redirect') return response.writeHead(302, { location: moved }).end();
    const file = path.join(dir, 'www', path.normalize(url.pathname));
    if (fs.existsSync(file) && fs.statSync(file).isFile()) return response.end(fs.readFileSync(file));
    if (url.pathname.includes('.git/')) return response.writeHead(404).end();
    response.end(`hello from ${host}\n`);
  });
}

// Verdaccio behind the names `registry.…` and `npm.…`, on every port and with TLS.
function relay(request, response, body, host) {
  const proto = request.socket.encrypted ? 'https' : 'http';
  const headers = { ...request.headers, host, 'x-forwarded-proto': proto };
  delete headers.connection;
  delete headers['transfer-encoding'];
  if (body.length) headers['content-length'] = body.length;
  const up = http.request({ host: '127.0.0.1', port: registry, path: request.url, method: request.method, headers });
  up.on('response', (answer) => { response.writeHead(answer.statusCode, answer.headers); answer.pipe(response); });
  up.on('error', (error) => { response.writeHead(502); response.end(String(error)); });
  up.end(body);
}

function proxy() {
  const where = (name) => {
    if (net.isIP(name)) return name;
    const found = entry(name) ?? {};
    return found.cname ? where(found.cname) : (found.a ?? found.aaaa ?? [])[0];
  };
  const server = http.createServer((request, response) => {
    record('proxy', { method: request.method, target: request.url });
    const url = new URL(request.url);
    const up = http.request({
      host: where(url.hostname), port: url.port || 80, path: url.pathname + url.search,
      method: request.method, headers: { ...request.headers, host: url.host },
    });
    up.on('response', (answer) => { response.writeHead(answer.statusCode, answer.headers); answer.pipe(response); });
    up.on('error', () => response.writeHead(502).end());
    request.pipe(up);
  });
  server.on('connect', (request, socket, head) => {
    record('proxy', { method: 'CONNECT', target: request.url });
    const { hostname, port } = new URL(`tcp://${request.url}`);
    const up = quiet(net.connect(Number(port), where(hostname), () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      up.write(head);
      up.pipe(quiet(socket)).pipe(up);
    }));
    socket.on('close', () => up.destroy());
    up.on('error', () => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'));
  });
  return server;
}

// --- sinks -------------------------------------------------------------------------------

// Says hello, keeps its side open, and writes down when the peer's end comes.
let accepted = 0;
const sink = () => net.createServer({ allowHalfOpen: true }, (socket) => {
  const id = (accepted += 1);
  const me = { role, id, local: local(socket), from: `${plain(socket.remoteAddress)}:${socket.remotePort}` };
  record('tcp', { event: 'accept', ...me });
  quiet(socket).on('data', (data) => record('tcp', { event: 'data', ...me, data: data.toString('latin1', 0, 300) }));
  socket.on('end', () => { record('tcp', { event: 'end', ...me }); socket.end(); });
  socket.on('close', () => record('tcp', { event: 'close', ...me }));
  socket.write('hello\n');
});

function datagrams(port) {
  const socket = createSocket({ type: 'udp6' });
  socket.on('message', (data, peer) => record('udp', { port, from: plain(peer.address), data: data.toString('latin1', 0, 300) }));
  return new Promise((ready) => socket.bind(port, '::', ready));
}

// --- start -------------------------------------------------------------------------------

const children = [];
const listen = (server, port, host = '::') =>
  new Promise((ready, failed) => server.on('error', failed).listen(port, host, ready));
const tls = { key: fs.readFileSync(`${dir}/server.key`), cert: fs.readFileSync(`${dir}/server.pem`) };

function secure() {
  const server = https.createServer(tls, serve);
  server.on('secureConnection', (socket) => record('tls', { sni: socket.servername || null, local: local(socket) }));
  server.on('tlsClientError', () => {});
  return server;
}

async function start() {
  if (role === 'client') {
    // What else listens on the client's own loopback: nobody's business but its owner's.
    await Promise.all([listen(http.createServer(serve), 80), listen(sink(), 7777)]);
    return;
  }
  await Promise.all([
    dns('dns', '198.51.100.53'), dns('dns', '2001:db8:1::53'), dns('rogue-dns', '203.0.113.53'),
    ...[80, 4873, 8080].map((port) => listen(http.createServer(serve), port)),
    ...[443, 8443].map((port) => listen(secure(), port)),
    listen(proxy(), 3128), listen(sink(), 7777), listen(sink(), 7778), datagrams(9999), datagrams(443),
  ]);
  const child = spawn('nsenter', ['--net=/proc/self/fd/3', process.execPath, process.argv[1], dir, 'client'],
    { stdio: ['pipe', 'pipe', 'inherit', 3] });
  children.push(child);
  await new Promise((ready) => child.stdout.once('data', ready));
}

const commands = {
  name: ({ name, entry: what }) => { zone.set(name, what); turn.delete(name); },
  // Verdaccio's own listener is on this namespace's loopback; `relay` gives it its names.
  registry: ({ program, config, port, home }) => new Promise((ready, failed) => {
    const child = spawn(process.execPath, [program, '--config', config, '--listen', `127.0.0.1:${port}`],
      { stdio: ['ignore', fs.openSync(`${dir}/verdaccio.log`, 'a'), fs.openSync(`${dir}/verdaccio.log`, 'a')],
        env: { PATH: process.env.PATH, HOME: home } });
    children.push(child);
    child.on('exit', (code) => failed(new Error(`verdaccio ended: ${code}`)));
    const attempt = (left) => {
      http.get({ host: '127.0.0.1', port, path: '/-/ping' }, (r) => { r.resume(); registry = port; ready(); })
        .on('error', (error) => (left ? setTimeout(attempt, 100, left - 1) : failed(error)));
    };
    attempt(300);
  }),
};

const lines = readline.createInterface({ input: process.stdin });
await start();
process.stdout.write(`${JSON.stringify({ ok: true, ready_ms: Number((process.hrtime.bigint() - started) / 1000000n) })}\n`);
lines.on('line', async (line) => {
  const command = JSON.parse(line);
  const error = await Promise.resolve().then(() => commands[command.command](command)).then(() => null, String);
  process.stdout.write(`${JSON.stringify({ ok: !error, error })}\n`);
});
lines.on('close', () => {
  for (const child of children) child.kill('SIGKILL');
  // A child may still be writing there as it dies.
  if (role === 'internet') fs.rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  process.exit(0);
});
