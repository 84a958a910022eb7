/**
 * Healthy stays healthy, on workers: each differs from the usual one in one thing. 00-assess, 05-verify, and
 * the line of `open` pasted there although nothing has changed: the kubelet goes on, no file changes, and
 * each ends well. On the usual one whole scripts run, and on the others their main.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { trustedKeys } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { pretendApi } from "../pretend/api.ts";
import { ADDRESS, FACTS } from "../pretend/cluster.ts";
import { BALANCER } from "../pretend/endpoint.ts";
import { join, LEASE, writeToken } from "../pretend/joining.ts";
import { runner } from "../pretend/many-runs.ts";
import { pretendNode } from "../pretend/node.ts";
import { runsHere } from "../pretend/typed-here.ts";
import { changedFiles, doesHarm, USUAL } from "../pretend/unlike.ts";
import { type UnlikeWorker, WORKERS } from "../pretend/unlike-workers.ts";

setDefaultTimeout(300_000);

const whole = runner();
afterAll(() => whole[Symbol.dispose]());

/** The worker of a row, and the API, by its own address and by a balancer's. */
async function served({ change, commands, without }: UnlikeWorker) {
  const node = await pretendNode({
    kind: "worker",
    ...(commands && { commands }),
    ...(without && { without }),
  });
  await change(node);
  writeToken(node.root, node.ca.cert);
  const tls = await issueLeaf(certRow("apiserver"), node.ca, { ...FACTS, certSANs: [BALANCER] });
  const objects = {
    [LEASE]: { metadata: { name: "w1" }, spec: { renewTime: new Date().toISOString() } },
    "/api/v1/nodes/w1": {},
  };
  const apis = [ADDRESS, BALANCER].map((hostname) =>
    pretendApi({ hostname, port: 6443, tls, objects: structuredClone(objects) }),
  );
  return { node, apis };
}

describe.each(WORKERS.map((row) => [row.name, row] as const))("a worker: %s", (_, row) => {
  let place: Awaited<ReturnType<typeof served>>;
  beforeAll(async () => {
    place = await served(row);
  });
  afterAll(() => {
    for (const one of [...place.apis, place.node]) one[Symbol.dispose]();
  });

  test.each(["00-assess", "join", "05-verify"])("%s leaves it alone", async (script) => {
    const { node, apis } = place;
    const line = script === "join" ? join([...trustedKeys(node.ca.cert)].join(",")) : script;
    const [before, calls] = [node.fingerprint(), node.calls().length];
    const env = {
      ...node.env,
      PWD: "/root",
      KUBE_PKI_REPAIR_ROOT: node.root,
      KUBE_PKI_REPAIR_PATIENCE: "0.02",
    };
    const { exitCode, stdout, stderr } = await (row.name === USUAL ? whole : runsHere).run({ line, env });
    const changed = [
      ...changedFiles(before, node.fingerprint()).filter((path) => !isOfToken(path)),
      ...node.calls().slice(calls).filter(doesHarm),
      ...apis.flatMap((api) => api.changes()),
    ];
    expect({ changed, exitCode, said: stdout + stderr }).toMatchObject({ changed: [], exitCode: 0 });
    if (script === "join") expect(stderr).toContain("has a certificate of this CA already, nothing to do");
  });
});

/** It is used up: a join removes it, and its record says so. */
function isOfToken(path: string): boolean {
  return path === "root" || path.startsWith("root/");
}
