/**
 * A sidecar in a static pod of kubeadm's, before its own container or behind it: nothing is read from it, or
 * changed in it.
 */
import { expect, test } from "bun:test";
import { cpSync, rmSync, utimesSync } from "node:fs";
import { apiEndpoint } from "../../../shared/facts/known-nodes.ts";
import { isExternalCa } from "../../../shared/facts/signed-elsewhere.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { commandOf } from "../../../shared/manifests/command.ts";
import { manifestText, readManifest } from "../../../shared/manifests/on-disk.ts";
import {
  fitOldSaKey,
  manifestDifferences,
  reduced,
  withAllControllers,
} from "../../../shared/manifests/repair-changes.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { restoreManifests } from "../../../shared/static-pods/restore.ts";
import { usableManifest } from "../../../shared/static-pods/work.ts";
import { ADDRESS, healthyCp, manifest, mirrorPod } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const SIDECAR = {
  name: "kms-plugin",
  image: "example.org/kms:v1",
  args: ["--listen=unix:///var/run/kms.sock"],
};
const beside = <T extends Pick<Manifest, "spec">>(pod: T, place: "before" | "behind"): T => {
  const copy = structuredClone(pod);
  copy.spec.containers =
    place === "before" ? [SIDECAR, ...copy.spec.containers] : [...copy.spec.containers, SIDECAR];
  return copy;
};

test.each(["before", "behind"] as const)(
  "a sidecar %s the server's own container changes nothing of it",
  async (place) => {
    const data = await pretendData((objects) => {
      for (const name of ["kube-apiserver", "kube-controller-manager"])
        objects[`pods/kube-system/${name}-m1`] = beside(mirrorPod(name), place);
      const annotations = (objects["pods/kube-system/kube-apiserver-m1"] as Manifest).metadata.annotations!;
      delete annotations["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"];
    });
    using box = sandbox();
    expect(apiEndpoint("m1", data)).toEqual({ host: ADDRESS, port: 6443 });
    const nodes = [{ name: "m1", controlPlane: true }];
    expect(isExternalCa(data, { nodes, certificatesDir: "/etc/kubernetes/pki" })).toBe(false);

    const manager = beside(manifest("kube-controller-manager"), place);
    const less = reduced(manager, "v1.34.4");
    expect(commandOf(less)).toContainEqual(expect.stringContaining("-node-lifecycle-controller"));
    expect(withAllControllers(less)).toEqual(manager);

    const api = beside(manifest("kube-apiserver"), place);
    writeFile("/etc/kubernetes/pki/sa-old.pub", (await keyPair("ECDSA-P256")).pub);
    const fitted = fitOldSaKey(api, "/etc/kubernetes/pki");
    expect(commandOf(fitted)).toContain("--service-account-key-file=/etc/kubernetes/pki/sa-old.pub");
    expect(fitted.spec.containers.find(({ name }) => name === SIDECAR.name)).toEqual(SIDECAR);

    writeFile("/m.yaml", manifestText(api));
    expect(usableManifest("/m.yaml", api)).toEqual(api);
    expect(box.said).not.toEqual([]);
    const etcd = beside(manifest("etcd"), place);
    const grown = structuredClone(etcd);
    commandOf(grown).push("--initial-cluster-state=existing");
    expect(manifestDifferences(grown, etcd)).toEqual([]);
  },
);

test("a manifest from which an attempt has lost the sidecar is not kept", async () => {
  const { root } = await healthyCp();
  const data = await pretendData((objects) => {
    objects["pods/kube-system/kube-scheduler-m1"] = beside(mirrorPod("kube-scheduler"), "behind");
  });
  using box = sandbox();
  cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
  const path = "/etc/kubernetes/manifests/kube-scheduler.yaml";
  rmSync(box.dir + path);
  writeFile(path, manifestText(manifest("kube-scheduler")));
  utimesSync(box.dir + path, new Date(0), new Date(0));
  expect(restoreManifests(controlPlaneOf(data), ["kube-scheduler"])).toBe(true);
  expect(readManifest(path)!.spec.containers.map(({ name }) => name)).toEqual([
    "kube-scheduler",
    "kms-plugin",
  ]);
});
