/**
 * A repair under a new CA leaves its mark: a certificate of etcd that is younger than the copy of its data.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { copyLargeTree } from "../../../shared/files/copy-tree.ts";
import { newRescue, rescuedEtcd } from "../../../shared/node/rescue-folder.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { issueEtcdCertificates } from "../../../shared/static-pods/etcd-pod.ts";
import { FACTS, otherCa, write } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const younger = await otherCa();
const MONTH_AGO = new Date(Date.now() - 30 * 86_400_000);
const SERVER = "/etc/kubernetes/pki/etcd/server";

interface Begun {
  /** The CA in its place is none that the cluster knew. */
  newCa?: true;
  /** Part 1 has copied etcd's data. */
  copied?: true;
}

/** Whether etcd's own certificate, and its key, are made anew: at first, and when the same is done again. */
async function issuedAnew({ newCa, copied }: Begun) {
  const seen: string[][] = [];
  await lookAt({ kind: "healthy control plane node" }, async ({ root, read }) => {
    const pki = `${root}/etc/kubernetes/pki`;
    const ca = {
      cert: read("/etc/kubernetes/pki/etcd/ca.crt"),
      key: read("/etc/kubernetes/pki/etcd/ca.key"),
    };
    const server = await issueLeaf(certRow("etcd-server"), ca, FACTS, { now: MONTH_AGO });
    write(`${root}${SERVER}.crt`, server.cert, 0o644);
    write(`${root}${SERVER}.key`, server.key);
    if (newCa) {
      write(`${pki}/ca.crt`, younger.cert, 0o644);
      write(`${pki}/ca.key`, younger.key);
    }
    if (copied) await copyLargeTree("/var/lib/etcd", rescuedEtcd(newRescue()));
    seen.push([server.cert, server.key]);
    for (let run = 1; run <= 2; run++) {
      await issueEtcdCertificates(await controlPlaneToRepair(undefined));
      seen.push([read(`${SERVER}.crt`), read(`${SERVER}.key`)]);
    }
  });
  const differs = (run: number) => [0, 1].map((file) => seen[run]![file] !== seen[run - 1]![file]);
  return { first: differs(1), again: differs(2) };
}

const KEPT = [false, false];
const ANEW = [true, true];

test.each<[string, Begun, boolean[]]>([
  ["is kept under the cluster's CA", {}, KEPT],
  ["is kept under the cluster's CA, also where etcd's data was copied", { copied: true }, KEPT],
  ["is kept under a new CA before etcd's data was copied", { newCa: true }, KEPT],
  [
    "is made anew, once, under a new CA and beside the copy of etcd's data",
    { newCa: true, copied: true },
    ANEW,
  ],
])("a sound certificate of etcd %s", async (_, begun, first) => {
  expect(await issuedAnew(begun)).toEqual({ first, again: KEPT });
});
