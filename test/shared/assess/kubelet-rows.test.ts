/** What 00-assess says of a kubelet that does not run, also where nothing else runs: after a reboot. */
import { expect, test } from "bun:test";
import { kubeletRow } from "../../../shared/assess/worker.ts";
import type { Container } from "../../../shared/node/containers.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const SHOP: Container = {
  id: "c".repeat(64),
  ...{ name: "shop", pod: "shop-1", namespace: "shop", podUid: "d0b2c3d4-0000-4000-8000-000000000001" },
  ...{ running: true, created: new Date() },
};

async function said(active: string, running: Container[]): Promise<string[]> {
  using _box = sandbox();
  using _programs = programsHere([
    { command: "systemctl is-active --quiet kubelet", exit: active === "active" ? 0 : 3 },
    { command: "systemctl is-active kubelet", stdout: `${active}\n`, exit: active === "active" ? 0 : 3 },
  ]);
  return (await kubeletRow(NODE, running)).map(({ severity, detail, works }) =>
    [severity, detail, works].filter(Boolean).join(" | "),
  );
}

test("a kubelet that ends after each start is told from one that was stopped", async () => {
  const counts = "0 control-plane and 1 other containers running; no client certificate";
  const soon = "its containers; a controller-manager that runs takes them out of Services after a minute";
  expect(await said("active", [SHOP])).toEqual([counts]);
  expect(await said("inactive", [SHOP])).toEqual([`soon | ${counts} | ${soon}`]);
  for (const state of ["activating", "failed"])
    expect(await said(state, [SHOP])).toEqual([
      `soon | systemd starts it, and it exits again (${state}): journalctl -u kubelet -n 50; ${counts} | ${soon}`,
    ]);
});

test("where no container runs, nothing waits until a restart: it is an outage now, and nothing is said to run on", async () => {
  expect(await said("inactive", [])).toEqual([
    "outage | no container runs; no client certificate | nothing on this node",
  ]);
  expect(await said("active", [])).toEqual(["no container runs; no client certificate"]);
});
