/** Whose etcd answers at a member's address. */
import { expect, test } from "bun:test";
import { readServedCertificate, servedCertificateAt } from "../../../shared/etcd/peers.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { ADDRESS } from "../../pretend/cluster.ts";
import { serveDeaf } from "../../pretend/etcd.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const FACTS = testFacts();
const PKI = FACTS.certificatesDir;
const ASIDE = `/root/kube-pki-repair-20260101T000000/aside${PKI}/etcd`;
const [today, before, other] = await Promise.all(
  Array.from({ length: 3 }, () => issueCa(certRow("etcd-ca"), FACTS)),
);

test("a peer's certificate is ours by today's etcd CA, and by one that a script has moved aside, and by no other file there", async () => {
  using _box = sandbox();
  writeFile(`${PKI}/etcd/ca.crt`, today!.cert);
  writeFile(`${ASIDE}/ca.crt`, "cut off");
  writeFile(`${ASIDE}/ca.crt.1`, before!.cert);
  writeFile(`${ASIDE}/peer.crt`, other!.cert);
  const shown = async (ca: typeof today) => {
    const { cert } = await issueLeaf(certRow("etcd-peer"), ca!, FACTS);
    return readServedCertificate(cert, FACTS);
  };
  expect(await Promise.all([today, before, other].map(shown))).toEqual([
    "ours",
    "of an older CA",
    "another's",
  ]);
  const at = async () => (await servedCertificateAt({ host: ADDRESS, port: 2380 }, FACTS)).shows;
  expect(await at()).toBe("nothing");
  using _deaf = serveDeaf(ADDRESS);
  expect(await at()).toBe("no certificate");
});
