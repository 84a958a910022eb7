#!/usr/bin/env bun
/** Our side of issue.ts, as a process: issue-all.ts DIR VERSION ALGORITHM makes a full PKI below DIR/ours. */
import { join } from "node:path";
import { setRoot } from "../../../shared/files/files.ts";
import { CERTS, type KeyAlgorithm } from "../../../shared/pki/certs.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { kubeconfigRows } from "../../../shared/pki/kubeconfigs.ts";
import { testFacts } from "../../pretend/facts.ts";

const [dir = "", kubernetesVersion = "", keyAlgorithm = ""] = process.argv.slice(2);
const facts = testFacts({ kubernetesVersion, keyAlgorithm: keyAlgorithm as KeyAlgorithm });
setRoot(join(dir, "ours"));
const wanted = {
  certs: CERTS,
  kubeconfigs: kubeconfigRows(facts, { superAdmin: true }),
  serviceAccountKey: true,
};
await ensureMany(wanted, facts, { asideDir: "/aside", newCas: "all" });
