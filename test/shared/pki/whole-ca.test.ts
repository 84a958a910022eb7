/**
 * ca.crt is lost and its key is here: what comes back is all that the file held, as the controller-manager
 * has published it.
 */
import { expect, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { readText } from "../../../shared/files/files.ts";
import { certificatesIn, keyMatches, signingFirst } from "../../../shared/pki/certificate.ts";
import { CERTS } from "../../../shared/pki/certs.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { examine } from "../../../shared/pki/examine.ts";
import { optionsForEnsure } from "../../../shared/static-pods/work.ts";
import { healthyCp, mirrorPod, otherCa } from "../../pretend/cluster.ts";
import { companyRoot, ofCompany } from "../../pretend/company-ca.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { root, ca } = await healthyCp();
const PKI = "/etc/kubernetes/pki";
const SIGNING = `--cluster-signing-cert-file=${PKI}/signing.crt`;

/** ca.crt as part 1 brings it back; with these flags of the controller-manager, and this kube-root-ca.crt. */
async function broughtBack(published: string, change: (words: string[]) => string[]) {
  const data = await pretendData((objects) => {
    const pod = mirrorPod("kube-controller-manager");
    pod.spec.containers[0]!.command = change(pod.spec.containers[0]!.command ?? []);
    objects["pods/kube-system/kube-controller-manager-m1"] = pod;
    Object.assign(objects["configmaps/kube-system/kube-root-ca.crt"] as object, {
      data: { "ca.crt": published },
    });
  });
  using box = sandbox();
  cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
  rmSync(`${box.dir}${PKI}/ca.crt`);
  const cp = controlPlaneOf(data);
  const { written } = await ensureMany({ certs: CERTS }, cp.facts, optionsForEnsure(cp));
  return {
    written,
    text: readText(`${PKI}/ca.crt`)!,
    states: CERTS.map((row) => examine(row, cp.facts).state),
  };
}

/** kubernetes.io's way around "expected 1 certificate, found 2": it signs with a file of its own. */
const signsElsewhere = (words: string[]) =>
  words.map((word) => (word.startsWith("--cluster-signing-cert-file=") ? SIGNING : word));

test.each([
  ["the old CA and today's", async () => (await otherCa()).cert + ca.cert],
  ["an intermediate CA and its root", async () => (await ofCompany(ca.cert)) + companyRoot],
  ["a root and its intermediate CA", async () => companyRoot + (await ofCompany(ca.cert))],
])("%s: both come back, in their order, and what the key has signed is still good", async (_, text) => {
  const published = await text();
  const seen = await broughtBack(published, signsElsewhere);
  expect(seen.text).toBe(published);
  expect(seen.written).toEqual(["ca"]);
  expect(new Set(seen.states)).toEqual(new Set(["ok"]));
});

test.each([
  [
    "a file of the controller-manager's own is published",
    (words: string[]) => [...signsElsewhere(words), "--root-ca-file=/etc/kubernetes/bundle.crt"],
  ],
  [
    "the controller-manager signs with ca.crt itself: it would not start with two",
    (words: string[]) => words,
  ],
])("%s: ca.crt held one certificate, that of its key", async (_, change) => {
  const { text } = await broughtBack((await otherCa()).cert + ca.cert, change);
  expect(certificatesIn(text).map((pem) => keyMatches(pem, ca.key))).toEqual([true]);
});

test("a certificate that is cut off does not hide the whole one behind it", () => {
  const { cert } = ca;
  const cut = cert.slice(0, cert.length / 2);
  expect(certificatesIn(`${cut}\n${cert}`)).toEqual([cert]);
  expect(certificatesIn(`${cert}${cut}\n${cert}`)).toEqual([cert, cert]);
});

test("the certificate that signs comes first, and the others stay, in their order", async () => {
  const [old, root] = [(await otherCa()).cert, companyRoot];
  expect(signingFirst(old + root + ca.cert, ca.key)).toBe(ca.cert + old + root);
  expect(signingFirst(old + root, ca.key)).toBe(old + root);
});
