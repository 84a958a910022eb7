/** Whether a worker has joined already: what it trusts has to be of that CA, and valid. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { readNode } from "../../../shared/node/node.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { kubeletKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { joinedCa } from "../../../shared/workers/join.ts";
import { healthyCp } from "../../pretend/cluster.ts";
import { agedText } from "../../pretend/expired.ts";
import { lookAt, type PretendNode } from "../../pretend/in-process.ts";

const { ca } = await healthyCp();
const YEARS = 11 * 365 * 86_400_000;
const expired = (await agedText(ca.cert, ca.key, YEARS))!;

/** Both files that the kubelet trusts by. */
const trusting =
  (clientCa: string, inConf: string) =>
  ({ root }: PretendNode) => {
    writeFileSync(`${root}/etc/kubernetes/pki/ca.crt`, clientCa);
    const conf = kubeletKubeconfig({ server: "https://127.77.0.11:6443", ca: inConf });
    writeFileSync(`${root}/etc/kubernetes/kubelet.conf`, conf);
  };

test.each([
  ["today's", ca.cert, ca.cert, true],
  ["one that has expired, of the same key, in both files", expired, expired, false],
  ["one that has expired in kubelet.conf alone", ca.cert, expired, false],
  ["both, side by side", expired + ca.cert, ca.cert, true],
] as const)("a kubelet whose certificate is good trusts by %s", async (_, clientCa, inConf, isJoined) => {
  const look = async () => await joinedCa(await readNode(), [certInfo(ca.cert).publicKeyHash]);
  const found = await lookAt({ kind: "worker", change: trusting(clientCa, inConf) }, look);
  expect(found).toBe(isJoined ? certInfo(ca.cert).pem : undefined);
});

test("a kubelet that does not run has not joined, whatever it trusts", async () => {
  const look = async () => await joinedCa(await readNode(), [certInfo(ca.cert).publicKeyHash]);
  const commands = [{ command: "systemctl is-active --quiet kubelet", exit: 3 }];
  const change = trusting(ca.cert, ca.cert);
  expect(await lookAt({ kind: "worker", commands, change }, look)).toBeUndefined();
});
