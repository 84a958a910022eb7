/** Which names the API server's certificate needs, by whom clients on this node are led. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { withEndpoint } from "../../../shared/facts/endpoint.ts";
import type { EndpointPlace } from "../../../shared/facts/endpoint-witnesses.ts";
import { healthyCp } from "../../pretend/cluster.ts";
import { lookAt, put } from "../../pretend/in-process.ts";
import { withM2 } from "../../pretend/lost-cp.ts";

setDefaultTimeout(300_000);

const { root } = await healthyCp();
const admin = readFileSync(`${root}/etc/kubernetes/admin.conf`, "utf8");

async function clients(host: string): Promise<readonly string[] | undefined> {
  const server = `https://${host}:6443`;
  const change = put({ "admin.conf": admin.replace(/server: .*/, `server: ${server}`) });
  return lookAt({ kind: "healthy control plane node", etcd: withM2, change }, async () => {
    const { known } = await lookHere(undefined, undefined);
    const seen = {
      value: undefined,
      witnesses: [],
      answers: new Map([[server, "ours" as const]]),
      undecided: false,
    };
    return withEndpoint(known!.cp as EndpointPlace, seen).clients;
  });
}

test("a kubeconfig that leads to another control plane node's own address needs no name here: that node answers there", async () => {
  expect(await clients("127.77.0.50")).toContain("127.77.0.50");
  expect(await clients("127.77.0.12")).not.toContain("127.77.0.12");
});
