import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { answerTo, ofCompany } from "../../pretend/company-ca.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sh } from "../machine/machine.ts";
import { type Profile, USUAL } from "../machine/profile.ts";
import { followGuide } from "../scene/follow-repair.ts";
import { assessed } from "../scene/printed.ts";
import { type Scenario, type Scene, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";
import { CAS, compareCas, endingIn, keepCas, theyExpire } from "./ca-ended.ts";
import { TAGS } from "./expired.ts";
import { pkiLostAlive } from "./keys-in-memory.ts";

/** kubeadm takes a CA that it finds. Its root stays in the company, so no file of a node leads to it. */
async function signedByCompany(): Promise<Profile> {
  const files: Record<string, string> = {};
  for (const row of ["ca", "etcd-ca", "front-proxy-ca"].map(certRow)) {
    const { cert, key } = await issueCa(row, testFacts({ keyAlgorithm: "RSA-2048" }));
    files[`${USUAL.certificatesDir}/${row.file}.crt`] = await ofCompany(cert);
    files[`${USUAL.certificatesDir}/${row.file}.key`] = key;
  }
  return { ...USUAL, controlPlaneFiles: { ...USUAL.controlPlaneFiles, ...files } };
}

/** A cluster below the CA of a company. Programs in Go trust its CA by itself, OpenSSL does not. */
export const companyCa: Scenario = {
  ...pkiLostAlive,
  name: "company-ca",
  title: "As pki-lost-alive, and the root of a company has signed the cluster's CAs",
  profile: signedByCompany,
};

/** The CAs of the cluster expire, the company's root does not. Nobody but the company can renew them. */
export const companyCaEnded: Scenario = {
  ...allLost,
  name: "company-ca-ended",
  title: "As ca-ended, and the root of a company has signed the cluster's CAs",
  profile: endingIn(4, ofCompany),
  lines: [
    // no kubelet has been heard for a minute
    { title: "The CAs expire", run: (scene) => theyExpire(scene, { late: 90 }) },
    { title: "00-assess says whom to ask, and the company signs the CSRs", run: askCompany },
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    { title: "The renewed CAs are compared", run: compareCas },
  ],
};

/** In memory. */
const FOLDER = "/run/from-company";

async function askCompany(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  const before = await assessed(scene, node);
  scene.checks.push({
    name: "00-assess: only who has signed the CAs can renew them, and no key is lost",
    ok:
      before.next.some((line) => line.includes("-in /etc/kubernetes/pki/ca.crt ")) &&
      !before.next.join().includes("--new-"),
    detail: before.verdict,
  });
  const old = await keepCas(scene);
  await sh(node, `mkdir -p ${FOLDER}/etcd`);
  for (const { name, file } of CAS) {
    const line = before.next.find((one) => one.includes(`-x509toreq -in /etc/kubernetes/pki/${file}.crt `));
    const { raw } = await type(scene, node, line ?? "false", { part: 0 });
    await node.run(["bash", "-c", `cat > ${FOLDER}/${file}.crt`], {
      input: await answerTo(raw, old.get(name)!),
    });
  }
  await type(scene, node, `./bunw scripts/renew-ca.ts --from ${FOLDER}`, { part: 0 });
  const after = await assessed(scene, node);
  scene.checks.push({
    name: "with what came back in place, 00-assess goes on with parts 1 and 2",
    ok: after.next[0]?.includes("01-etcd.ts") === true && !after.next.join().includes("--new-"),
    detail: after.verdict,
  });
}
