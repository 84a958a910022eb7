/**
 * `repair` from its own line to its end, over real ssh and real sshds: all nodes have addresses of IPv6, another port, and a
 * jump host that is reached by IPv6.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Logged } from "../../shared/follow/session.ts";
import { hasSshd, JUMP, nodesBySshd, REPAIR } from "../pretend/nodes-by-sshd.ts";
import { planOf } from "../pretend/plan-answer-here.ts";

setDefaultTimeout(300_000);

const NODES = { m1: "fd00::11", m2: "fd00::12", m3: "fd00::13", w1: "fd00::21", w2: "fd00::22" };
const JOIN =
  "./bunw scripts/03-join.ts --server 'https://[fd00::11]:6443' --ca-hash sha256:ab --token-file token";
const PACKED =
  "./bunw scripts/hand-over.ts unpack --passphrase-file passphrase --ca-hash sha256:ab shared-keys.age";

/** What bunw prints: the plan of three control plane nodes and two workers, by their addresses of IPv6. */
const BUNW = `*"plan.ts --json"*) cat "$CALLS.plan"; exit 2 ;;
*--json*) echo "{}" ;;
*"pack --passphrase-file"*) (umask 077; echo bundle > shared-keys.age); echo "${PACKED}" ;;
*"workers.ts open"*) (umask 077; echo a-token > token; for w in w1 w2; do mkdir -p token.d/$w; echo $w > token.d/$w/token; done); echo "${JOIN}" ;;
*report.ts*) echo page > report.html ;;`;

test.skipIf(!hasSshd)("all of it goes by IPv6, through the jump host, to its end", async () => {
  const plan = await planOf("");
  for (const node of plan.nodes) node.address = NODES[node.name as keyof typeof NODES];
  const config = `Host ${NODES.m1}\n  Port 2222\n  ProxyJump root@[${JUMP.address}]:${JUMP.port}`;
  using nodes = nodesBySshd({ nodes: NODES, config, bunw: BUNW });
  writeFileSync(join(nodes.folder, "calls.plan"), JSON.stringify(plan));
  const words = ["--yes", "--new-keys", "--kit", nodes.kit, "--log", "repair.log"];
  const { exitCode, stdout, stderr, calls, connections, led } = await nodes.run([
    ...REPAIR,
    `root@[${NODES.m1}]`,
    ...words,
  ]);
  expect({ exitCode, stdout, stderr }).toEqual({
    exitCode: 0,
    stdout: expect.stringContaining("Repaired, and verified, in "),
    stderr: expect.stringContaining(`looks at ${NODES.m1}`),
  });
  expect({ connections, led }).toEqual({ connections: [1, 1, 1, 1, 1], led: 5 });
  const join1 = JOIN.replace("./bunw ", "").replaceAll("'", "");
  for (const address of [NODES.w1, NODES.w2]) expect(calls).toContain(`${address} ${join1}`);
  for (const address of [NODES.m1, NODES.m2, NODES.m3])
    expect(calls).toContain(`${address} scripts/02-control-plane.ts`);
  const logged = readFileSync(join(nodes.folder, "repair.log"), "utf8").trim().split("\n");
  const lines = logged.map((line) => JSON.parse(line) as Logged);
  expect(new Set(lines.map(({ node }) => node))).toEqual(new Set([NODES.m1, ...Object.keys(NODES)]));
  expect(lines.find(({ node, command }) => node === "w2" && command.includes("03-join"))).toMatchObject({
    command: JOIN,
    exitCode: 0,
  });
});
