/** A machine whose clock is wrong. What others wrote, and what they answer, has the right time. */
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { pretendApi } from "./api.ts";
import { ADDRESS, FACTS, healthyCp, mirrorPod, type Objects } from "./cluster.ts";
import type { FakeCommand } from "./programs.ts";

const HOUR = 3600_000;

/** The environment of a script whose clock is so many hours off. */
export function clockOff(hours: number): Record<string, string> {
  return {
    BUN_OPTIONS: `--preload ${import.meta.dir}/shifted-clock.ts`,
    PRETEND_CLOCK: String(hours * HOUR),
  };
}

/** In hours. */
export const YEAR = 365 * 24;

/** No time server sets this clock, or one does. */
export function timeServer(is: "yes" | "no"): FakeCommand {
  return { command: "timedatectl show --property=NTPSynchronized --value", stdout: `${is}\n` };
}

const others = { m2: ADDRESS.replace(/11$/, "12"), m3: ADDRESS.replace(/11$/, "13") };

/**
 * Two more control plane nodes, and when each kubelet last renewed its Lease: seconds from now, in this
 * order.
 */
export function withOthers(renewals: [name: string, seconds: number][]) {
  return (objects: Objects) => {
    const control = { "node-role.kubernetes.io/control-plane": "" };
    for (const [name, address] of Object.entries(others)) {
      const status = { addresses: [{ type: "InternalIP", address }] };
      objects[`minions/${name}`] = {
        apiVersion: "v1",
        kind: "Node",
        metadata: { name, uid: `uid-of-${name}`, labels: control },
        status,
      };
      objects[`pods/kube-system/kube-apiserver-${name}`] = JSON.parse(
        JSON.stringify(mirrorPod("kube-apiserver"))
          .replaceAll("-m1", `-${name}`)
          .replaceAll('"m1"', `"${name}"`)
          .replaceAll(ADDRESS, address),
      );
    }
    for (const [name, seconds] of renewals)
      objects[`leases/kube-node-lease/${name}`] = {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name, namespace: "kube-node-lease" },
        spec: { renewTime: new Date(Date.now() + seconds * 1000).toISOString() },
      };
  };
}

/** The API server of another control plane node, whose clock is right. */
export async function otherApi(name: keyof typeof others, ca?: { cert: string; key: string }) {
  const advertiseAddress = others[name];
  const tls = await issueLeaf(certRow("apiserver"), ca ?? (await healthyCp()).ca, {
    ...FACTS,
    nodeName: name,
    advertiseAddress,
  });
  return pretendApi({ hostname: advertiseAddress, port: 6443, tls });
}
