/**
 * Names that somebody has put into a certificate by hand: of this node's own certificates, of the cluster's
 * CA, and none that is known.
 */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { apiNamesShown, certificatesBefore, namesByHand } from "../../../shared/facts/names-before.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { WORDS_FILE } from "../../../shared/node/rescue-folder.ts";
import { CERTS, certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { optionsForEnsure } from "../../../shared/static-pods/work.ts";
import { pretendApi } from "../../pretend/api.ts";
import { ADDRESS, FACTS, healthyCp, otherCa } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { movedWords } from "../../pretend/kept-words.ts";
import { AT_M2, withM2 } from "../../pretend/lost-cp.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { ca } = await healthyCp();
const [data, other] = [await pretendData(withM2), await otherCa()];
const row = certRow("apiserver");
const BY_HAND = ["api.old.example", "10.9.9.9"];

/** The names by hand of an API server's certificate. */
async function namesOf(certSANs: string[], { by = ca, name = "apiserver" } = {}): Promise<string[]> {
  using _box = sandbox();
  const { cert } = await issueLeaf(certRow(name), by, { ...FACTS, certSANs });
  return namesByHand([cert], row, controlPlaneOf(data));
}

test("names and addresses that kubeadm's configuration does not have are kept, in their order", async () => {
  expect(await namesOf(BY_HAND)).toEqual(BY_HAND);
});

test("what this node, or another control plane node, is called is no name by hand", async () => {
  expect(await namesOf([])).toEqual([]);
  expect(await namesOf(["m2", "127.77.0.12", ...BY_HAND])).toEqual(BY_HAND);
});

test("an address that its machine has left stays in the API server's certificate, and goes from etcd's", async () => {
  const { cert } = await issueLeaf(certRow("etcd-server"), ca, { ...FACTS, etcdServerCertSANs: BY_HAND });
  using box = sandbox();
  const folder = `${box.dir}/root/kube-pki-repair-20261129T080000`;
  const etcdRow = certRow("etcd-server");
  mkdirSync(`${box.dir}${FACTS.certificatesDir}/etcd`, { recursive: true });
  writeFileSync(`${box.dir}${FACTS.certificatesDir}/etcd/ca.crt`, ca.cert);
  const left = () => namesByHand([cert], etcdRow, controlPlaneOf(data));
  expect(left()).toEqual(BY_HAND);
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/${WORDS_FILE}`, movedWords([[BY_HAND[1]!, "10.9.9.8"]]));
  expect(left()).toEqual([BY_HAND[0]!]);
});

test("of what was moved aside, all that was in its place counts, and nothing that was beside it", () => {
  using _box = sandbox();
  const cp = controlPlaneOf(data);
  const folder = `${cp.rescue.dir}/aside${FACTS.certificatesDir}`;
  const certs = ["apiserver.crt", "apiserver.crt.1", "apiserver-etcd-client.crt", "apiserver.crt.bak"];
  for (const name of certs) writeFile(`${folder}/${name}`, name);
  expect(certificatesBefore(row, cp)).toEqual(["apiserver.crt", "apiserver.crt.1"]);
});

test("a certificate of another CA, and one for somebody else, say nothing of this node", async () => {
  expect(await namesOf(BY_HAND, { by: other })).toEqual([]);
  expect(await namesOf(BY_HAND, { name: "apiserver-kubelet-client" })).toEqual([]);
});

const M2_AT = ADDRESS.replace(/11$/, "12");

test.each([
  ["this cluster's CA counts", ca, BY_HAND],
  ["another CA does not", other, []],
])("what the API server of another control plane node shows by %s", async (_, by, names) => {
  const near = await pretendData((objects) => {
    withM2(objects);
    for (const [key, object] of Object.entries(objects))
      objects[key] = JSON.parse(JSON.stringify(object).replaceAll(AT_M2, M2_AT));
  });
  using _box = sandbox();
  writeFile(`${FACTS.certificatesDir}/ca.crt`, ca.cert);
  const tls = await issueLeaf(row, by, { ...FACTS, certSANs: BY_HAND });
  using _api = pretendApi({ hostname: M2_AT, port: 7443, tls });
  const shown = await apiNamesShown(controlPlaneOf(near));
  expect(shown.filter((name) => BY_HAND.includes(name))).toEqual(names);
});

test("a host by which clients come is in the API server's certificate, and in no other", () => {
  using _box = sandbox();
  const cp = controlPlaneOf(data);
  const witnesses = [{ name: "kube-proxy", place: "lb.example:6443" }];
  const { alsoFor } = optionsForEnsure({ ...cp, endpoint: { ...cp.endpoint, witnesses } as never });
  const having = CERTS.filter((row) => alsoFor(row).includes("lb.example")).map(({ name }) => name);
  expect(having).toEqual(["apiserver"]);
});
