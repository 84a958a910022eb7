/**
 * The first control plane node's disk in `hostile-undelete`: the attacker's deleted files, and one file of
 * the cluster that is overwritten.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { parse, stringify } from "yaml";
import { kubectl } from "../machine/machine.ts";
import { takeSnapshot } from "../report/snapshot.ts";
import { mirrorPodFollows, note, type Scene, sayAndWait } from "../scene/scene.ts";
import type { Attacker } from "./attacker.ts";
import { litter } from "./litter.ts";
import { plays } from "./objects.ts";

const FOLDER = "/etc/kubernetes/authentication";
const CONFIG = `${FOLDER}/config.yaml`;
const FLAG = `--authentication-config=${CONFIG}`;

/** The cluster's own configuration. */
const OWN = stringify({
  apiVersion: "apiserver.config.k8s.io/v1beta1",
  kind: "AuthenticationConfiguration",
  jwt: [
    {
      issuer: { url: "https://issuer.example", audiences: ["lab"] },
      claimMappings: { username: { claim: "sub", prefix: "oidc:" } },
    },
  ],
});

export async function useAuthenticationFile(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  mkdirSync(node.path(FOLDER), { mode: 0o700 });
  writeFileSync(node.path(CONFIG), OWN, { mode: 0o600 });
  const path = node.path("/etc/kubernetes/manifests/kube-apiserver.yaml");
  const manifest = parse(readFileSync(path, "utf8"));
  const [container] = manifest.spec.containers;
  container.command.push(FLAG);
  container.volumeMounts.push({ name: "authentication", mountPath: FOLDER, readOnly: true });
  manifest.spec.volumes.push({
    name: "authentication",
    hostPath: { path: FOLDER, type: "DirectoryOrCreate" },
  });
  writeFileSync(path, stringify(manifest));
  await mirrorPodFollows(scene, "kube-apiserver", (spec) => spec.includes(FLAG));
  const answers = async () => (await kubectl(scene.lab, ["get", "--raw", "/readyz"])).exitCode === 0;
  await sayAndWait(scene, "the API server to answer", answers, {
    seconds: 120,
    hint: "crictl ps -a --name kube-apiserver",
  });
  scene.before = await takeSnapshot(scene.lab);
}

/**
 * The attacker's files are in free blocks beside the cluster's. The cluster's authentication configuration is
 * overwritten.
 */
export async function leaveDeletedFiles(scene: Scene, attacker: Attacker) {
  const node = scene.lab.controlPlanes[0]!;
  overwrite(node.path(CONFIG));
  if (plays("disk")) {
    const folder = node.path("/etc/kubernetes/volume-of-a-pod");
    mkdirSync(folder);
    for (const [name, text] of Object.entries(litter(attacker))) writeFileSync(`${folder}/${name}`, text);
    await node.run(["sync"]);
    rmSync(folder, { recursive: true });
  }
  await node.run(["sync"]);
  note(
    scene,
    "the attacker's files are in free blocks; the cluster's authentication configuration is overwritten",
  );
}

function overwrite(path: string) {
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(statSync(path).size));
  fsyncSync(file);
  closeSync(file);
}

/** The operator has a backup, and restores it where the file is missing. */
export function restoreAuthentication({ lab }: Scene) {
  const node = lab.controlPlanes[0]!;
  if (existsSync(node.path(CONFIG))) return;
  mkdirSync(node.path(FOLDER), { recursive: true, mode: 0o700 });
  writeFileSync(node.path(CONFIG), OWN, { mode: 0o600 });
}
