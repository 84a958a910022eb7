import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { ofCompany } from "../../pretend/company-ca.ts";
import { testFacts } from "../../pretend/facts.ts";
import { type Profile, USUAL } from "../machine/profile.ts";
import type { Scenario } from "../scene/scene.ts";
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
