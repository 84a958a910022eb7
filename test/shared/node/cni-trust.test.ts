/**
 * Whether a kubeconfig of CNI has the old CA is told by what answers at its server, and where nothing does,
 * by the CA's name.
 */
import { expect, test } from "bun:test";
import { trustsOldCa } from "../../../shared/node/cni-trust.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { pretendApi } from "../../pretend/api.ts";
import { write } from "../../pretend/cluster.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const FACTS = testFacts({ advertiseAddress: "127.0.0.1" });
const PATH = "/etc/cni/net.d/calico-kubeconfig";

/** A CA of this name, and a certificate for a server at 127.0.0.1. */
async function caOf(cn: string) {
  const ca = await issueCa({ ...certRow("ca"), cn }, FACTS);
  const { cert, key } = await issueLeaf(certRow("apiserver"), ca, FACTS);
  return { pem: ca.cert, tls: { cert, key } };
}

const [today, old, company] = [await caOf("kubernetes"), await caOf("kubernetes"), await caOf("company")];

/** `trusted`: the CA in the file; `shown`: of whom the server's certificate is, none where nobody answers. */
async function judged(trusted: string, shown?: { cert: string; key: string }): Promise<boolean> {
  using box = sandbox();
  using server = pretendApi(shown ? { tls: shown } : {});
  const at = shown ? server.url : "https://127.0.0.1:1";
  const cluster = { server: at, "certificate-authority-data": btoa(trusted) };
  write(box.dir + PATH, JSON.stringify({ clusters: [{ name: "local", cluster }] }));
  return await trustsOldCa(PATH, today.pem);
}

test.each([
  ["the old CA, and today's API server answers", old.pem, today.tls, true],
  ["the old CA, and nobody answers", old.pem, undefined, true],
  ["the old CA, and a server of that CA still answers: it works", old.pem, old.tls, false],
  ["a company's CA, and its proxy answers", company.pem, company.tls, false],
  ["a company's CA, and nobody answers", company.pem, undefined, false],
  ["the old CA, and a stranger answers: that proves nothing", old.pem, company.tls, false],
  ["the current CA beside the old one", old.pem + today.pem, today.tls, false],
])("%s", async (_, trusted, shown, isOld) => {
  expect(await judged(trusted, shown)).toBe(isOld);
});
