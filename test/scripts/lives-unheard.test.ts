/** A proxy in root's environment is for other connections than ours to this node's servers. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expectNothingDone, livingNode, renewing } from "../pretend/living.ts";
import { serveRunning } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

/** A proxy that nobody may reach this node by. */
function proxy() {
  let asked = 0;
  const answer = (socket: { end: (text: string) => unknown }) => {
    asked++;
    socket.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
  };
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: answer } });
  return {
    url: `http://127.0.0.1:${server.port}`,
    asked: () => asked,
    [Symbol.dispose]: () => server.stop(true),
  };
}

test.each(["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"])(
  "with %s in root's environment a healthy node stays as it is",
  async (name) => {
    using node = await livingNode();
    using away = proxy();
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    using _api = serveRunning(node, { on: renewing });
    for (const line of ["01-etcd", "02-control-plane"])
      await expectNothingDone(node, line, { [name]: away.url });
    expect(away.asked()).toBe(0);
  },
);
