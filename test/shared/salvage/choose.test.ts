/** Two generations of a PKI on one disk, and what may be chosen of them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Manifest, manifestFromMirrorPod } from "../../../shared/manifests/from-mirror-pod.ts";
import { certInfo, publicKeyHash, publicKeyOf } from "../../../shared/pki/certificate.ts";
import { CERTS } from "../../../shared/pki/certs.ts";
import { certificatesOf, kubeconfigsOf, manifestVersions, matchingKeys, sameMeaning } from "../../../shared/salvage/disk/choose.ts";
import type { Find } from "../../../shared/salvage/disk/finds.ts";
import { manifest, mirrorPod } from "../../pretend/cluster.ts";
import { type Files, findsOn, kubernetesFiles, layOut } from "../../pretend/lost-disk.ts";

const dir = mkdtempSync(join(tmpdir(), "choose-"));
let old: Files;
let current: Files;
let finds: Find[];

beforeAll(async () => {
  [old, current] = [await kubernetesFiles("ECDSA-P256"), await kubernetesFiles("ECDSA-P384")];
  const both = Object.entries(current).map(([name, content]) => [`a/${name}`, content] as const);
  const earlier = Object.entries(old).map(([name, content]) => [
    `b/${name}`,
    content.replace("--bind-address=127.0.0.1", "--bind-address=0.0.0.0"),
  ]);
  writeFileSync(join(dir, "disk.img"), layOut(Object.fromEntries([...both, ...earlier]), 1024));
  finds = await findsOn(join(dir, "disk.img"));
}, 60_000);

afterAll(() => rmSync(dir, { recursive: true }));

describe("of two generations, the one that is asked for is chosen by its public keys", () => {
  for (const generation of ["old", "current"] as const) {
    test(generation, () => {
      const files = generation === "old" ? old : current;
      const names = CERTS.map(({ file }) => file);
      const wanted = [
        ...names.map((file) => certInfo(files[`pki/${file}.crt`]!).publicKeyHash),
        publicKeyHash(publicKeyOf(files["pki/sa.pub"]!)),
      ];
      const keys = matchingKeys(finds, wanted);
      expect(keys.size).toBe(11);
      for (const [i, file] of [...names, "sa"].entries()) expect(keys.get(wanted[i]!)!.pem === files[`pki/${file}.key`]).toBe(true);
      for (const [i, file] of names.entries()) {
        const certs = certificatesOf(keys.get(wanted[i]!)!, finds);
        expect(certs.map(({ pem }) => pem)).toEqual([files[`pki/${file}.crt`]!]);
      }
      expect(certificatesOf(keys.get(wanted.at(-1)!)!, finds)).toEqual([]);
    });
  }

  test("a key that nobody asked for is not chosen, and one that is not there is missing", () => {
    expect(matchingKeys(finds, [`sha256:${"0".repeat(64)}`]).size).toBe(0);
  });
});

test("kubeconfigs are chosen by the CA that signed them, also where the certificate is a file of its own", () => {
  for (const files of [old, current]) {
    const chosen = kubeconfigsOf(finds, files["pki/ca.crt"]!);
    expect([...chosen.keys()].sort()).toEqual([
      "default-auth",
      "kubernetes-admin",
      "kubernetes-super-admin",
      "system:kube-controller-manager",
      "system:kube-scheduler",
    ]);
    expect(chosen.get("kubernetes-admin")!.text === files["admin.conf"]).toBe(true);
    expect(chosen.get("default-auth")!.text === files["kubelet.conf"]).toBe(true);
  }
});

describe("manifests", () => {
  const known = (name: string) => manifestFromMirrorPod(mirrorPod(name) as never, "m1");

  test("the version that means what the mirror pod does is chosen, wherever it lies", () => {
    const { versions, chosen } = manifestVersions(finds, "kube-scheduler", known("kube-scheduler"));
    expect(versions.length).toBe(2);
    expect(chosen?.text === current["manifests/kube-scheduler.yaml"]).toBe(true);
    expect(manifestVersions(finds, "etcd", known("etcd")).versions.length).toBe(1);
  });

  test("without a mirror pod, or with another one, none is: an operator looks at all of them", () => {
    expect(manifestVersions(finds, "kube-scheduler")).toMatchObject({ versions: [{ complete: true }, { complete: true }] });
    expect(manifestVersions(finds, "kube-scheduler").chosen).toBeUndefined();
    const other = known("kube-scheduler");
    other.spec.containers[0]!.command!.push("--v=4");
    expect(manifestVersions(finds, "kube-scheduler", other).chosen).toBeUndefined();
    expect(manifestVersions(finds, "kube-vip").versions).toEqual([]);
  });

  test("defaults, the priority that admission adds and the order of fields mean nothing; an argument does", () => {
    const plain = manifest("etcd");
    const other = JSON.parse(JSON.stringify(plain)) as Manifest & { spec: { priority?: number; restartPolicy?: string } };
    delete other.spec.priority;
    other.spec.restartPolicy = "Always";
    other.metadata = Object.fromEntries(Object.entries(other.metadata).reverse()) as never;
    expect(sameMeaning(plain, other)).toBe(true);
    other.spec.containers[0]!.command!.reverse();
    expect(sameMeaning(plain, other)).toBe(false);
  });
});
