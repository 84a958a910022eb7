/** Requests to a node's etcd that no script of the kit makes. */
import { Fail } from "../../../shared/fail.ts";
import type { Machine } from "../machine/machine.ts";
import type { Needed } from "../machine/packages.ts";

export const GATEWAY_PACKAGES: Needed = [["/usr/bin/curl", "curl"]];

/** A request to etcd's JSON gateway (etcd's api_grpc_gateway.md), as its health check. */
export async function askGateway(node: Machine, path: string, body: object): Promise<unknown> {
  const pki = "/etc/kubernetes/pki/etcd";
  const client = [
    "--cacert",
    `${pki}/ca.crt`,
    "--cert",
    `${pki}/healthcheck-client.crt`,
    "--key",
    `${pki}/healthcheck-client.key`,
  ];
  const { stdout, stderr, exitCode } = await node.run([
    "curl",
    "-sSf",
    ...client,
    "--data-binary",
    JSON.stringify(body),
    `https://127.0.0.1:2379/v3/${path}`,
  ]);
  if (exitCode !== 0)
    throw new Fail(`etcd on ${node.name} refuses ${path}: ${stderr.trim()}`, {
      hint: "crictl logs of etcd on that node, with --keep",
    });
  return JSON.parse(stdout);
}
