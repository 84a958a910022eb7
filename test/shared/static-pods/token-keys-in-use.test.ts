/** What the old key of tokens changes for part 4: since when a pod must run, and what the API publishes. */
import { expect, test } from "bun:test";
import { cpSync, readFileSync, rmSync, utimesSync } from "node:fs";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { podTrust, saKeyIsNew } from "../../../shared/facts/sa-key.ts";
import { hostPath, writeFile } from "../../../shared/files/files.ts";
import { rescuedEtcd } from "../../../shared/node/rescue-folder.ts";
import { madeAt } from "../../../shared/pki/certificate.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { markNewSaKey, serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import { proveOldSaKeys } from "../../../shared/static-pods/take-up.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { healthyCp, otherCa } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { POD_UID, podRecord } from "../../pretend/memory.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const PKI = "/etc/kubernetes/pki";

test("pods have to run since the new CA, or since the new sa.pub as long as old tokens are accepted, whichever is later", async () => {
  const cp = controlPlaneOf(await pretendData());
  const { root } = await healthyCp();
  using box = sandbox();
  cpSync(root + PKI, box.dir + PKI, { recursive: true });
  const caMade = madeAt(readFileSync(`${root}${PKI}/ca.crt`, "utf8"));
  const saMade = new Date(caMade.getTime() + 3_600_000);
  utimesSync(`${box.dir}${PKI}/sa.pub`, saMade, saMade);
  expect(podTrust(cp).since).toEqual(caMade);
  writeFile(`${PKI}/sa-old.pub`, (await keyPair("ECDSA-P256")).pub);
  expect(podTrust(cp).since).toEqual(saMade);

  const { cert } = await otherCa();
  writeFile(`${PKI}/ca.crt`, cert);
  const [earlier, later] = [-60_000, 60_000].map((ms) => new Date(madeAt(cert).getTime() + ms)) as [
    Date,
    Date,
  ];
  utimesSync(`${box.dir}${PKI}/sa.pub`, earlier, earlier);
  expect(podTrust(cp).since).toEqual(madeAt(cert));
  utimesSync(`${box.dir}${PKI}/sa.pub`, later, later);
  expect(podTrust(cp).since).toEqual(later);
});

test("a CA that a copy of etcd's data from before knows was in use long before; one that a repair has made was not", async () => {
  const cp = controlPlaneOf(await pretendData());
  using box = sandbox();
  cpSync((await healthyCp()).root + PKI, box.dir + PKI, { recursive: true });
  const since = (more: object) => podTrust({ ...cp, ...more }).caInUse;
  const [LONG, dataFrom] = [new Date(0), rescuedEtcd(cp.rescue)];
  expect([since({ dataFrom }), since({ earlier: { ...cp } })]).toEqual([LONG, LONG]);
  expect(since({ dataFrom: cp.etcd.dir, earlier: undefined })).not.toEqual(LONG);
  const { cert } = await otherCa();
  writeFile(`${PKI}/ca.crt`, cert);
  expect(since({ dataFrom })).toBeUndefined();
  // another control plane node has made it, and the living etcd's data was copied after that
  const late = await pretendData((objects) => {
    Object.assign(objects["configmaps/kube-system/kube-root-ca.crt"] as object, { data: { "ca.crt": cert } });
    const began = new Date(madeAt(cert).getTime() - 3600_000).toISOString();
    Object.assign((objects["namespaces/kube-system"] as { metadata: object }).metadata, {
      creationTimestamp: `${began.slice(0, 19)}Z`,
    });
  });
  const kept = { dataFrom, data: late, cluster: readCluster(late) };
  expect(since(kept)).toEqual(madeAt(cert));
  // one that was renewed, or given to the cluster, days before the repair
  const rescue = { ...cp.rescue, made: new Date(madeAt(cert).getTime() + 2 * 86_400_000) };
  expect(since({ ...kept, rescue })).toEqual(LONG);
});

/** A token in a volume of one of this node's pods of kube-system, as far as it names its key and its age. */
function mountToken(letter: string, kid: string, issued: Date) {
  const claims = { sub: "system:serviceaccount:kube-system:x", iat: issued.getTime() / 1000 };
  const parts = [{ alg: "ES256", kid }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString("base64url"),
  );
  const pod = POD_UID.replace(/^./, letter);
  podRecord(hostPath("/"), "kube-system", `pod-${letter}`, pod);
  writeFile(
    `/var/lib/kubelet/pods/${pod}/volumes/kubernetes.io~projected/api/token`,
    `${parts.join(".")}.c2ln`,
  );
}

test("sa.key is new where this node's pods hold older tokens and none of them is its own; one that came back to its place is not", async () => {
  const cp = controlPlaneOf(await pretendData());
  const { root } = await healthyCp();
  using box = sandbox();
  cpSync(root + PKI, box.dir + PKI, { recursive: true });
  const [long, since] = [new Date("2026-01-01"), new Date("2026-06-01")];
  utimesSync(`${box.dir}${PKI}/sa.pub`, since, since);
  expect(saKeyIsNew(cp)).toBe(false);
  mountToken("a", serviceAccountKeyId(readFileSync(`${root}${PKI}/sa.pub`, "utf8")), new Date("2026-06-02"));
  mountToken("b", "another", long);
  expect(saKeyIsNew(cp)).toBe(true);
  expect(podTrust(cp).since).toEqual(
    new Date(Math.max(since.getTime(), madeAt(readFileSync(`${root}${PKI}/ca.crt`, "utf8")).getTime())),
  );
  mountToken("c", serviceAccountKeyId(readFileSync(`${root}${PKI}/sa.pub`, "utf8")), long);
  expect(saKeyIsNew(cp)).toBe(false);
});

test("a key that part 1 made stays new, also where this node's pods have tokens of it already; another one in its place is not", async () => {
  const cp = controlPlaneOf(await pretendData());
  using box = sandbox();
  cpSync((await healthyCp()).root + PKI, box.dir + PKI, { recursive: true });
  const old = readFileSync(`${box.dir}${PKI}/sa.pub`, "utf8");
  for (const file of ["sa.key", "sa.pub"]) rmSync(`${box.dir}${PKI}/${file}`);
  const began = new Date();
  await ensureMany({ serviceAccountKey: true }, cp.facts, {
    asideDir: "/root/aside",
    newCas: "all",
    onNewSaKey: markNewSaKey,
  });
  mountToken(
    "a",
    serviceAccountKeyId(readFileSync(`${box.dir}${PKI}/sa.pub`, "utf8")),
    new Date(Date.now() + 60_000),
  );
  expect(saKeyIsNew(cp)).toBe(true);
  expect(podTrust(cp).since.getTime()).toBeGreaterThanOrEqual(began.getTime());
  writeFile(`${PKI}/sa.pub`, old);
  expect(saKeyIsNew(cp)).toBe(false);
});

test("the API server's published keys prove the old key; one that publishes none is said not to be proved", async () => {
  using box = sandbox();
  const { pub } = await keyPair("ECDSA-P256");
  writeFile(`${PKI}/sa-old.pub`, pub);
  using publishing = pretendApi({
    on: () => Response.json({ keys: [{ kid: "today" }, { kid: serviceAccountKeyId(pub) }] }),
  });
  await proveOldSaKeys(new KubeApi({ server: publishing.url, ca: NO_TLS }), { certificatesDir: PKI });
  expect(box.said.slice(1)).toEqual([
    "old and new service-account tokens are accepted, until part 4 takes sa-old.pub out",
  ]);

  using silent = pretendApi({ on: () => Response.json({ message: "not found" }, { status: 404 }) });
  await proveOldSaKeys(new KubeApi({ server: silent.url, ca: NO_TLS }), { certificatesDir: PKI });
  expect(box.said.slice(2)).toEqual([
    "the API server does not publish its keys (/openid/v1/jwks), so nothing proves which keys it uses",
  ]);
});
