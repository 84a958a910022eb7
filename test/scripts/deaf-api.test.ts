/**
 * The API server of this node takes connections and never answers, or answers no question: a signal has stopped it, or its etcd
 * hangs. The first screens of parts 1 and 2 say that it is asked, ask it once, and go on without it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { ADDRESS } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { gone } from "../pretend/in-process.ts";
import { longLives } from "../pretend/long-lives.ts";
import { serveRunning } from "../pretend/running.ts";
import { nodeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const ASKS = /^ {2}asks kube-apiserver of this node at https:\/\/\S+:6443, for 10 s at most$/gm;
const KEYS = "/openid/v1/jwks";

/** Takes connections. `count`: how many have begun to speak. */
function deaf() {
  let count = 0;
  const heard = new WeakSet();
  const data = (socket: object) => {
    if (!heard.has(socket)) count++;
    heard.add(socket);
  };
  const server = Bun.listen({ hostname: ADDRESS, port: 6443, socket: { data } });
  return { count: () => count, [Symbol.dispose]: () => server.stop(true) };
}

/** Shows its certificate, and answers nothing. `count`: questions for its keys. */
function hangs(node: PretendNode) {
  const never = new Promise<Response>(() => undefined);
  const api = serveRunning(node, { on: () => never });
  const count = () => api.requests.filter(({ path }) => path === KEYS).length;
  return { count, [Symbol.dispose]: () => api[Symbol.dispose]() };
}

const ROWS = [
  ["02-control-plane", "whose API server is deaf", [], deaf],
  ["02-control-plane", "whose API server is deaf, and its certificate is lost", ["pki/apiserver.crt"], deaf],
  ["02-control-plane", "without scheduler.conf, whose API server answers nothing", ["scheduler.conf"], hangs],
  ["01-etcd", "as the second", ["pki/apiserver.crt", "pki/etcd/server.crt"], deaf],
] as const;

test.each(ROWS)(
  "%s on a node %s: its first questions are named, and asked once",
  async (line, _, files, api) => {
    const containers = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    using node = await nodeHere({ kind: "healthy control plane node", containers, etcd: longLives });
    using server = api(node);
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    gone(...files)(node);
    const { exitCode, stderr } = await node.run(`${line} --dry-run`);
    const before = stderr.slice(0, stderr.search(/== (?:1\.3|2\.2)/));
    expect({ exitCode, asks: before.match(ASKS)?.length, all: stderr.match(ASKS)?.length }).toEqual({
      exitCode: 0,
      asks: 1,
      all: 1,
    });
    expect(server.count()).toBe(1);
    if (files.length > 0) expect(before.search(ASKS)).toBeLessThan(before.indexOf("will stop: "));
  },
);
