/** Which servers part 2 starts again: those that do not work with what they have read. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { utimesSync } from "node:fs";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { type Container, containers } from "../../../shared/node/containers.ts";
import { mode } from "../../../shared/run.ts";
import { staleReaders, toRestart } from "../../../shared/static-pods/restarts.ts";
import { closedOnce } from "../../pretend/closed-once.ts";
import { ADDRESS } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { CRICTL, crictlPs } from "../../pretend/node.ts";
import { serveRunning } from "../../pretend/running.ts";

setDefaultTimeout(300_000);

const API = "kube-apiserver";
const SERVER_NAMES = [API, "kube-controller-manager", "kube-scheduler"];
const AT = { hostname: ADDRESS, port: 6443 };

/** A runtime whose API server was started an hour ago. */
const anHourAgo = () => {
  const shown = JSON.parse(crictlPs([API])) as { containers: { createdAt: string }[] };
  for (const one of shown.containers) one.createdAt = `${Date.now() - 3600_000}000000`;
  return [{ command: `${CRICTL} ps -a -o json`, stdout: JSON.stringify(shown) }];
};

/**
 * Somebody has touched its certificate since; `serve` is what answers, and `again` where it is asked about the same node once
 * more. Names of those that start again, at the last question.
 */
async function restarted(
  serve: (node: { root: string }) => Disposable,
  again?: (node: { root: string }) => Disposable,
): Promise<string[]> {
  const change = ({ root }: { root: string }) => {
    const later = new Date(Date.now() - 600_000);
    utimesSync(`${root}/etc/kubernetes/pki/apiserver.crt`, later, later);
  };
  return await lookAt({ kind: "healthy control plane node", commands: anHourAgo(), change }, async (node) => {
    process.env.KUBE_PKI_REPAIR_PATIENCE = "0.1";
    mode.began = new Date();
    const cp = await controlPlaneToRepair(undefined);
    const running = await containers(cp.node.runtimeEndpoint);
    let names: string[] = [];
    for (const one of [serve, ...(again ? [again] : [])]) {
      using _server = one(node);
      names = (await toRestart(cp, { running, issued: [] })).stale.map(({ name }) => name);
    }
    return names;
  });
}

test("an API server that works, and is silent at the first question, is asked again, and goes on", async () => {
  expect(await restarted((node) => serveRunning(node))).toEqual([]);
  expect(await restarted((node) => closedOnce(AT, () => serveRunning(node)))).toEqual([]);
});

const silent = () => {
  const server = Bun.listen({ ...AT, socket: { open: (socket) => void socket.end(), data() {} } });
  return { [Symbol.dispose]: () => server.stop(true) };
};

test("one that shows nothing for half a minute starts again", async () => {
  expect(await restarted(silent)).toEqual([API]);
});

test("what the first screen has judged is judged once: the run stops neither more nor less", async () => {
  expect(await restarted((node) => serveRunning(node), silent)).toEqual([]);
  expect(await restarted(silent, (node) => serveRunning(node))).toEqual([API]);
});

/** A file that part 2 writes → the servers that start again for it. A key stands beside its certificate, which is what is asked. */
const READERS: Record<string, string[]> = {
  "pki/ca.crt": SERVER_NAMES,
  "pki/etcd/ca.crt": SERVER_NAMES,
  "pki/front-proxy-ca.crt": SERVER_NAMES,
  "pki/sa.key": SERVER_NAMES,
  "pki/apiserver.crt": ["kube-apiserver"],
  "pki/front-proxy-client.crt": ["kube-apiserver"],
  "pki/apiserver-etcd-client.crt": ["kube-apiserver"],
  "pki/etcd/server.crt": [],
  "controller-manager.conf": ["kube-controller-manager"],
  "scheduler.conf": ["kube-scheduler"],
  "admin.conf": [],
  "kubelet.conf": [],
  "pki/front-proxy-client.key": [],
  "notes.txt": [],
};

test.each(Object.entries(READERS))("%s is written: %j start again", async (file, names) => {
  const found = await lookAt({ kind: "healthy control plane node", commands: anHourAgo() }, async () => {
    const cp = await controlPlaneToRepair(undefined);
    const running = SERVER_NAMES.map(
      (name, i): Container => ({
        ...{ id: String(i), name, pod: `${name}-${cp.node.name}`, namespace: "kube-system", running: true },
        ...{ podUid: "0".repeat(32), created: new Date(Date.now() + 3600_000) },
      }),
    );
    return staleReaders(cp, running, [`/etc/kubernetes/${file}`]).map(({ container }) => container.name);
  });
  expect(found.sort()).toEqual(names.toSorted());
});
