/** Which of the other masters' etcds count: those of our CA, and of them those that a member can talk to. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { isHeard, servesOurCa } from "../shared/etcd/sisters.ts";
import { writeFile } from "../shared/files/files.ts";
import { certRow } from "../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../shared/pki/issue.ts";
import { FACTS, healthyMaster } from "./pretend-cluster.ts";
import { sandbox } from "./sandbox.ts";

test("an etcd whose certificate has ended is of our CA, but no member hears it", async () => {
  const { root } = await healthyMaster();
  const [cert, key] = ["ca.crt", "ca.key"].map((file) => readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8"));
  using _box = sandbox();
  writeFile("/etc/kubernetes/pki/etcd/ca.crt", cert!);
  const ours = { cert: cert!, key: key! };
  const another = await issueCa(certRow("etcd-ca"), FACTS);
  const served = async (ca: typeof ours, now: Date) => ({ servedPem: (await issueLeaf(certRow("etcd-peer"), ca, FACTS, { now })).cert });
  const cases = [
    await served(ours, new Date()),
    await served(ours, new Date("2024-01-01")),
    await served(another, new Date()),
    { servedPem: undefined },
  ];
  expect(cases.map((one) => [servesOurCa(one, FACTS), isHeard(one, FACTS)])).toEqual([
    [true, true],
    [true, false],
    [false, false],
    [false, false],
  ]);
});
