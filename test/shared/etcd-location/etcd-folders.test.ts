/**
 * What the API server has encrypted is opened wherever it is read: live, in the history, and as another etcd
 * has it.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { withDecryption } from "../../../shared/etcd-location/etcd-folders.ts";
import { write } from "../../pretend/cluster.ts";
import { CLUSTER_ID, MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { encryptionConfig, sealed } from "../../pretend/sealed.ts";
import { writeEtcdData } from "../../pretend/write-wal.ts";

const SECRET = Buffer.alloc(32, 7);
const [GONE, LIVE] = ["/registry/pods/kube-system/gone", "/registry/pods/kube-system/live"];
const plainOf = (key: string) => JSON.stringify({ kind: "Pod", metadata: { name: key } });
const sealedOf = (key: string) => sealed("aesgcm", Buffer.from(plainOf(key)), SECRET, key);

test("live values, the history and values of a running etcd are opened; a deletion stays one", () => {
  const dir = mkdtempSync(join(tmpdir(), "etcd-"));
  using box = sandbox();
  write(`${box.dir}/etc/kubernetes/enc.yaml`, encryptionConfig("aesgcm", SECRET));
  const puts: [string, Uint8Array | undefined][] = [
    [GONE, sealedOf(GONE)],
    [LIVE, sealedOf(LIVE)],
    [GONE, undefined],
  ];
  writeEtcdData(dir, { clusterId: CLUSTER_ID, members: [MEMBER], puts });
  using data = readEtcdData(dir);
  rmSync(dir, { recursive: true });
  const opened = withDecryption(data);
  const text = (value: Uint8Array | undefined) => Buffer.from(value ?? []).toString();
  expect(text(opened.get(LIVE)?.value)).toBe(plainOf(LIVE));
  expect([...opened.list("/")].map(({ value }) => text(value))).toEqual([plainOf(LIVE)]);
  expect(opened.history(GONE).map(({ deleted, value }) => [deleted, text(value)])).toEqual([
    [true, ""],
    [false, plainOf(GONE)],
  ]);
  expect(text(opened.shown(LIVE, sealedOf(LIVE)))).toBe(plainOf(LIVE));
  expect(text(opened.shown(LIVE, Buffer.from("k8s\0plain")))).toBe("k8s\0plain");
});
