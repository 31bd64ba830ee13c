"""Clients that people use, against `weir http` on every engine."""

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import http_programs
import programs

CONTENT = os.urandom(700 * 1024)

# Loads a page's parts beside each other over few connections, as a browser does; with a range, a
# condition, and a streamed upload.
FETCH = """
const base = process.argv[1], content = require('fs').readFileSync(process.argv[2]);
async function main() {
  const paths = Array.from({ length: 60 }, (_, i) => i % 3 ? '/a.txt' : '/big.bin');
  const bodies = await Promise.all(paths.map(async path => {
    const answer = await fetch(base + path);
    return [answer.status, Buffer.from(await answer.arrayBuffer())];
  }));
  for (const [i, [status, body]] of bodies.entries())
    if (status !== 200 || !body.equals(i % 3 ? Buffer.from('text\\n') : content))
      throw new Error('answer ' + i);
  const part = await fetch(base + '/big.bin', { headers: { range: 'bytes=5-14' } });
  if (part.status !== 206 || !Buffer.from(await part.arrayBuffer()).equals(content.subarray(5, 15)))
    throw new Error('range');
  const tag = part.headers.get('etag');
  const same = await fetch(base + '/big.bin', { headers: { 'if-none-match': tag } });
  if (same.status !== 304) throw new Error('condition ' + same.status);
  const gone = await fetch(base + '/nope');
  if (gone.status !== 404) throw new Error('nope');
  console.log('fetched');
  process.exit(0); // or its idle connections would keep it
}
main().catch(error => { console.log(error); process.exit(1); });
"""

# Undici itself: pipelining on one connection, a pool, streamed bodies both ways, an abort.
UNDICI = """
const { Client, Pool, request, stream } = require(process.argv[3]);
const { Writable, Readable } = require('stream');
const base = process.argv[1], content = require('fs').readFileSync(process.argv[2]);
const text = 'text\\n', get = { path: '/a.txt', method: 'GET' };
async function body(answer) { return Buffer.from(await answer.body.arrayBuffer()); }
async function main() {
  const client = new Client(base, { pipelining: 16 });
  const answers = await Promise.all(Array.from({ length: 200 }, (_, i) =>
    client.request(i % 20 ? get : { path: '/big.bin', method: 'GET' })
      .then(async answer => [answer.statusCode, await body(answer)])));
  for (const [i, [status, got]] of answers.entries())
    if (status !== 200 || !got.equals(i % 20 ? Buffer.from(text) : content))
      throw new Error('pipelined ' + i);
  const refused = await client.request({ path: '/a.txt', method: 'PUT',
                                         body: Readable.from(['a', 'b', 'c']) });
  if (refused.statusCode !== 405) throw new Error('put ' + refused.statusCode);
  await refused.body.dump();
  await client.close();
  const pool = new Pool(base, { connections: 8, pipelining: 1 });
  const aborter = new AbortController();
  const aborted = pool.request({ path: '/big.bin', method: 'GET', signal: aborter.signal })
    .then(answer => { aborter.abort(); return body(answer); })
    .then(() => 'whole', error => error.name);
  if (await aborted !== 'AbortError') throw new Error('abort ' + await aborted);
  let size = 0;
  await Promise.all(Array.from({ length: 40 }, () => pool.stream(
    { path: '/big.bin', method: 'GET' },
    () => new Writable({ write(chunk, _, done) { size += chunk.length; done(); } }))));
  if (size !== 40 * content.length) throw new Error('streamed ' + size);
  const head = await request(base + '/big.bin', { method: 'HEAD' });
  if (head.headers['content-length'] !== String(content.length)) throw new Error('head');
  console.log('requested');
  process.exit(0);
}
main().catch(error => { console.log(error); process.exit(1); });
"""
UNDICI_PLACES = ("/usr/share/nodejs/undici", "/usr/lib/node_modules/undici")


def needs(name):
    return unittest.skipUnless(shutil.which(name), f"{name} is not installed")


class Clients(http_programs.HttpTest):
    """Each gets the right bytes, over connections that it keeps."""

    files = {"a.txt": b"text\n", "big.bin": CONTENT, "dir/index.html": b"<p>index</p>"}
    options = ("--listing",)

    def run_client(self, *command, **variables):
        run = subprocess.run(command, capture_output=True, timeout=programs.LIMIT, check=False,
                             env=os.environ | variables)
        said = run.stderr + run.stdout[-500:]
        self.assertEqual(run.returncode, 0, said.decode("latin-1"))
        return run.stdout

    @needs("curl")
    def test_curl(self):
        """Several URLs over one connection, a resumed download, a redirect, a condition."""
        def check(address):
            base = f"http://{address}"
            got = self.run_client("curl", "-sS", f"{base}/a.txt", f"{base}/big.bin",
                                  f"{base}/a.txt", "-w", "%{num_connects}")
            self.assertEqual(got, b"text\n1" + CONTENT + b"0text\n0")
            path = os.path.join(self.root, "part")
            with open(path, "wb") as file:
                file.write(CONTENT[:1000])
            self.run_client("curl", "-sS", "-C", "-", "-o", path, f"{base}/big.bin")
            with open(path, "rb") as file:
                self.assertEqual(file.read(), CONTENT)
            os.unlink(path)
            self.assertEqual(self.run_client("curl", "-sSL", f"{base}/dir"), b"<p>index</p>")
            got = self.run_client("curl", "-sS", "-z", os.path.join(self.root, "a.txt"), "-w",
                                  "%{http_code}", f"{base}/a.txt")
            self.assertEqual(got, b"304")
        self.on_each_engine(check)

    @needs("wget")
    def test_wget(self):
        """A mirror by the listing has every file."""
        def check(address):
            with tempfile.TemporaryDirectory() as folder:
                self.run_client("wget", "-q", "-r", "-np", "-nH", "-P", folder,
                                f"http://{address}/")
                for name, content in self.files.items():
                    with open(os.path.join(folder, name), "rb") as file:
                        self.assertEqual(file.read(), content)
        self.on_each_engine(check)

    def test_http_client(self):
        """Python's own, with one connection for all."""
        def check(address):
            host, port = address.rsplit(":", 1)
            client = http.client.HTTPConnection(host, int(port), timeout=programs.LIMIT)
            for _ in range(20):
                for name, content in (("/a.txt", b"text\n"), ("/big.bin", CONTENT)):
                    client.request("GET", name)
                    self.assertEqual(client.getresponse().read(), content)
            client.request("POST", "/a.txt", body=b"x" * 1000)
            answer = client.getresponse()
            self.assertEqual((answer.status, answer.getheader("allow")), (405, "GET, HEAD"))
            answer.read()
            client.request("GET", "/a.txt")
            self.assertEqual(client.getresponse().read(), b"text\n")
            client.close()
        self.on_each_engine(check)

    @needs("h2load")
    def test_h2load(self):
        """Three thousand requests, pipelined and not, and every one succeeds."""
        def check(address):
            for depth in ("1", "10"):
                got = self.run_client("h2load", "--h1", "-n", "3000", "-c", "20", "-m", depth,
                                      f"http://{address}/a.txt").decode()
                self.assertIn("3000 succeeded, 0 failed, 0 errored, 0 timeout", got)
                self.assertIn("3000 2xx", got)
        self.on_each_engine(check)

    @needs("wrk")
    def test_wrk(self):
        """A short burst without an error."""
        def check(address):
            got = self.run_client("wrk", "-t1", "-c16", "-d1", "--timeout", f"{programs.LIMIT}s",
                                  f"http://{address}/a.txt").decode()
            self.assertNotIn("Socket errors", got)
            self.assertNotIn("Non-2xx", got)
            self.assertIn("Requests/sec", got)
        self.on_all_engines(check)

    @needs("node")
    def test_node_fetch(self):
        """Undici's connections: parallel downloads, a range, a condition."""
        def check(address):
            got = self.run_client("node", "-e", FETCH, f"http://{address}",
                                  os.path.join(self.root, "big.bin"))
            self.assertEqual(got, b"fetched\n")
        self.on_each_engine(check)

    @needs("node")
    def test_undici(self):
        """Undici's own interface: pipelined, pooled, streamed, aborted; the package where Debian or
        npm put it."""
        place = next(filter(os.path.isdir, UNDICI_PLACES), None)
        if not place:
            self.skipTest("undici is not installed (Debian's package node-undici)")
        def check(address):
            got = self.run_client("node", "-e", UNDICI, f"http://{address}",
                                  os.path.join(self.root, "big.bin"), place,
                                  NODE_PATH=os.path.dirname(place))
            self.assertEqual(got, b"requested\n")
        self.on_each_engine(check)

    def test_a_unix_socket_serves_too(self):
        """The same over a unix listener."""
        with tempfile.TemporaryDirectory() as folder:
            for engine in http_programs.ENGINES:
                with self.subTest(engine=engine):
                    server = programs.Server(engine, "--root", self.root, "--status", "/s",
                                             name="http", listen=(f"unix:{folder}/{engine}",))
                    self.addCleanup(server.kill)
                    self.assertEqual(self.get(server.addresses[0], "/a.txt").body, b"text\n")
                    status = json.loads(self.get(server.addresses[0], "/s").body)
                    self.assertEqual(status["status_2xx"], 1)
