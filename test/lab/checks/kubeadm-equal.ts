#!/usr/bin/env bun
/**
 * Compares our tables and our issuing with a real kubeadm: both make a full PKI and all kubeconfigs from the
 * same facts. Every field that is not random must be equal, down to the bytes of subjects and extensions. Its CAs
 * are renewed, too: nothing but serial number and end may differ.
 *
 * The lab's own kubeadm, or another: ./bunw test/lab/checks/kubeadm-equal.ts
 * ~/.cache/kube-pki-repair/kubernetes-v1.34.4/kubeadm v1.34.4
 */
import "reflect-metadata";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { X509Certificate } from "@peculiar/x509";
import { parse, stringify } from "yaml";
import { $ } from "zx/core";
import { setRoot } from "../../../shared/files/files.ts";
import { algorithmOf } from "../../../shared/pki/certificate.ts";
import {
  CERTS,
  type ClusterFacts,
  KEY_ALGORITHMS,
  type KeyAlgorithm,
  minorOf,
} from "../../../shared/pki/certs.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { kubeconfigRows } from "../../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../../shared/pki/renew.ts";
import { run } from "../../../shared/run.ts";
import { testFacts } from "../../pretend/facts.ts";
import { leaveNode } from "../../pretend/no-node.ts";
import { keptBytes } from "../../pretend/renewed.ts";
import { binaries } from "../machine/binaries.ts";
import { installPackages } from "../machine/packages.ts";
import { KUBERNETES } from "../machine/pins.ts";

/** File name → field → value: what is compared. */
type Description = Map<string, Record<string, string>>;

/** Random by nature, so only its length is compared. */
const KEY_IDS = ["2.5.29.14", "2.5.29.35"];

/** Facts that use every way in which a name or an address gets into a certificate. */
const VARIANTS: Record<string, Partial<ClusterFacts>> = {
  plain: {},
  names: {
    certSANs: ["Z.example", "*.wild.example", "192.0.2.7", "10.250.99.1", "fd00::7"],
    etcdServerCertSANs: ["etcd.example"],
    etcdPeerCertSANs: ["192.0.2.8"],
  },
  ipv6: {
    advertiseAddress: "fd00:99::1",
    controlPlaneEndpoint: "[fd00:99::ff]:8443",
    serviceSubnets: ["fd00:10:96::/112", "10.96.0.0/16"],
  },
  alone: {
    controlPlaneEndpoint: undefined,
    clusterName: "kubernetes",
    nodeName: "m1.example.org",
    bindPort: 7443,
  },
  periods: {
    certificateValidityHours: 100,
    caValidityHours: 1000,
    clusterName: "blue",
    dnsDomain: "blue.local",
  },
};

/** The differences between kubeadm's files and ours, as sentences; none when they are the same. */
async function compareWithKubeadm(
  kubeadm: string,
  version: string,
  different: Partial<ClusterFacts> = {},
): Promise<string[]> {
  const dir = mkdtempSync(join(tmpdir(), "kubeadm-equal-"));
  const facts = testFacts({ kubernetesVersion: version, keyAlgorithm: "RSA-2048", ...different });
  try {
    await runKubeadm(kubeadm, facts, dir);
    await runOurs(facts, dir);
    return [
      ...differences(await describe(join(dir, "kubeadm")), await describe(join(dir, "ours/etc/kubernetes"))),
      ...renewedOtherwise(join(dir, "kubeadm/pki"), facts),
    ];
  } finally {
    leaveNode();
    rmSync(dir, { recursive: true });
  }
}

/**
 * kubeadm's CAs renewed with their own keys: certificates in which more than serial number and end differ. Each leaf
 * is good under the renewed one, or `renewCa` fails.
 */
function renewedOtherwise(pki: string, { caValidityHours: hours }: ClusterFacts): string[] {
  const read = (file: string) => readFileSync(join(pki, file), "utf8");
  return CERTS.filter((row) => row.shared).flatMap(({ name, file }) => {
    const old = read(`${file}.crt`);
    const signed = CERTS.filter(({ ca }) => ca === name).map((leaf) => read(`${leaf.file}.crt`));
    const renewed = renewCa(old, read(`${file}.key`), { hours, signed });
    return keptBytes(renewed) === keptBytes(old) ? [] : [`${file}.crt: renewed, it has more that differs`];
  });
}

/** kubeadm's own run, into DIR/kubeadm. */
export async function runKubeadm(kubeadm: string, facts: ClusterFacts, dir: string) {
  const config = join(dir, "kubeadm.yaml");
  writeFileSync(config, kubeadmConfig({ ...facts, certificatesDir: join(dir, "kubeadm/pki") }));
  const quiet = $({ quiet: true });
  await quiet`${kubeadm} init phase certs all --config ${config}`;
  await quiet`${kubeadm} init phase kubeconfig all --config ${config} --kubeconfig-dir ${join(dir, "kubeadm")}`;
}

/** Our run, into DIR/ours. */
export async function runOurs(facts: ClusterFacts, dir: string) {
  setRoot(join(dir, "ours"));
  const wanted = {
    certs: CERTS,
    kubeconfigs: kubeconfigRows(facts, { superAdmin: true }),
    serviceAccountKey: true,
  };
  await ensureMany(wanted, facts, { asideDir: "/aside", newCas: "all" });
}

/**
 * `init` configuration for a version: v1beta4 from 1.31, v1beta3 before (which has neither validity periods
 * nor the key algorithm).
 */
function kubeadmConfig(facts: ClusterFacts): string {
  const v1beta4 = minorOf(facts.kubernetesVersion) >= 31;
  const apiVersion = `kubeadm.k8s.io/${v1beta4 ? "v1beta4" : "v1beta3"}`;
  const init = {
    apiVersion,
    kind: "InitConfiguration",
    localAPIEndpoint: { advertiseAddress: facts.advertiseAddress, bindPort: facts.bindPort },
    nodeRegistration: { name: facts.nodeName, criSocket: "unix:///run/containerd/containerd.sock" },
  };
  const cluster = {
    apiVersion,
    kind: "ClusterConfiguration",
    kubernetesVersion: facts.kubernetesVersion,
    clusterName: facts.clusterName,
    certificatesDir: facts.certificatesDir,
    ...(facts.controlPlaneEndpoint ? { controlPlaneEndpoint: facts.controlPlaneEndpoint } : {}),
    networking: { serviceSubnet: facts.serviceSubnets.join(","), dnsDomain: facts.dnsDomain },
    apiServer: { certSANs: facts.certSANs },
    etcd: { local: { serverCertSANs: facts.etcdServerCertSANs, peerCertSANs: facts.etcdPeerCertSANs } },
    ...(v1beta4
      ? periodsOf(facts)
      : { featureGates: { PublicKeysECDSA: facts.keyAlgorithm === "ECDSA-P256" } }),
  };
  return `${stringify(init)}---\n${stringify(cluster)}`;
}

function periodsOf(facts: ClusterFacts) {
  return {
    encryptionAlgorithm: facts.keyAlgorithm,
    certificateValidityPeriod: `${facts.certificateValidityHours}h`,
    caCertificateValidityPeriod: `${facts.caValidityHours}h`,
  };
}

async function describe(dir: string): Promise<Description> {
  const files = readdirSync(dir, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(dir, name)).isFile())
    .sort();
  const described = files.map(async (name): Promise<[string, Record<string, string>]> => {
    const text = readFileSync(join(dir, name), "utf8");
    const mode = (statSync(join(dir, name)).mode & 0o777).toString(8);
    if (name.endsWith(".conf"))
      return [name, { mode, ...describeKubeconfig(text, readFileSync(join(dir, "pki/ca.crt"), "utf8")) }];
    return [name, { mode, ...describePem(text), ...(name.endsWith(".crt") ? describeCert(text) : {}) }];
  });
  return new Map(await Promise.all(described));
}

function describePem(text: string): Record<string, string> {
  const lines = text.split("\n");
  return {
    pem: `${lines[0]} … ${lines.at(-2)}, ends in a newline: ${lines.at(-1) === ""}`,
    width: String(lines[1]?.length),
  };
}

function describeCert(pem: string): Record<string, string> {
  const cert = new X509Certificate(pem);
  const fields: Record<string, string> = {
    subject: hex(cert.subjectName.toArrayBuffer()),
    issuer: hex(cert.issuerName.toArrayBuffer()),
    // kubeadm begins a kubeconfig's with the CA, which it may have made some minutes before, and ends it
    // counted from now
    hours: String(Math.floor((cert.notAfter.getTime() - cert.notBefore.getTime()) / 3_600_000)),
    begins: `5 to 30 minutes ago: ${minutesSince(cert.notBefore) >= 5 && minutesSince(cert.notBefore) < 30}`,
    key: String(algorithmOf(pem)),
    signature: JSON.stringify(cert.signatureAlgorithm),
    extensions: cert.extensions.map((extension) => extension.type).join(" "),
    serial:
      cert.serialNumber.length <= 16 && Number.parseInt(cert.serialNumber.padStart(16, "0")[0]!, 16) < 8
        ? "63 bits, positive"
        : cert.serialNumber,
  };
  for (const { type, critical, value } of cert.extensions)
    fields[type] = `${critical} ${KEY_IDS.includes(type) ? value.byteLength : hex(value)}`;
  return fields;
}

function describeKubeconfig(text: string, ca: string): Record<string, string> {
  const { clusters, users } = parse(text);
  const decode = (data: string) => Buffer.from(data, "base64").toString();
  const user = users[0].user;
  return {
    // Before 1.34 client-go wrote an empty map that nothing reads.
    text: text.replaceAll(/(-data: )\S+/g, "$1…").replace("preferences: {}\n", ""),
    ca: decode(clusters[0].cluster["certificate-authority-data"]) === ca ? "ca.crt" : "another",
    ...describeCert(decode(user["client-certificate-data"])),
    ...describePem(decode(user["client-key-data"])),
  };
}

function differences(theirs: Description, ours: Description): string[] {
  const names = [...new Set([...theirs.keys(), ...ours.keys()])].sort();
  return names.flatMap((name) => {
    const [kubeadm, own] = [theirs.get(name), ours.get(name)];
    if (!kubeadm || !own) return [`${name}: only ${kubeadm ? "kubeadm" : "we"} wrote it`];
    const fields = [...new Set([...Object.keys(kubeadm), ...Object.keys(own)])].filter(
      (field) => kubeadm[field] !== own[field],
    );
    return fields.map((field) => `${name} ${field}: kubeadm ${kubeadm[field]}, ours ${own[field]}`);
  });
}

function minutesSince(date: Date): number {
  return (Date.now() - date.getTime()) / 60_000;
}

function hex(bytes: ArrayBuffer): string {
  return Buffer.from(bytes).toString("hex");
}

async function main() {
  const [kubeadm = await labsKubeadm(), version = KUBERNETES] = process.argv.slice(2);
  const minor = minorOf(version);
  const algorithms: readonly KeyAlgorithm[] =
    minor < 31 ? ["RSA-2048"] : KEY_ALGORITHMS.filter((name) => minor >= 34 || name !== "ECDSA-P384");
  // names and periods are the same in every algorithm: one whose keys are quickly made shows them
  const quick = minor < 31 ? "RSA-2048" : "ECDSA-P256";
  let count = 0;
  for (const algorithm of algorithms) {
    for (const [name, different] of Object.entries(VARIANTS)) {
      if (name === "periods" && minor < 31) continue;
      if (algorithm !== quick && name !== "plain") continue;
      const found = await compareWithKubeadm(kubeadm, version, { keyAlgorithm: algorithm, ...different });
      console.log(
        `${version} ${algorithm} ${name}: ${found.length === 0 ? "the same" : `${found.length} differences`}`,
      );
      for (const difference of found) console.log(`  ${difference}`);
      count += found.length;
    }
  }
  process.exit(count === 0 ? 0 : 1);
}

async function labsKubeadm(): Promise<string> {
  await installPackages();
  return (await binaries()).get("kubeadm")!;
}

if (import.meta.main) await run(main);
