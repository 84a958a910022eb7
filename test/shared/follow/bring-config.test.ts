/** A kubelet's configuration that a worker has: its root has written it, so its difference is read before it goes. */
import { expect, test } from "bun:test";
import { bringConfig } from "../../../shared/follow/bring-config.ts";
import { KIT_PLACE } from "../../../shared/plan/kit-place.ts";
import { PretendNodes, PretendPerson, pretendSession } from "../../pretend/follow.ts";
import { caught } from "../../pretend/quietly.ts";

const PATH = "/etc/kubernetes/kubelet-config.yaml";
const OWN = "/var/lib/kubelet/config.yaml";
const BRINGS = { path: PATH, from: "w1", to: ["m1", "m2"], own: OWN, on: "m1" };
const KUBEADMS = "kind: KubeletConfiguration\nauthentication:\n  x509:\n    clientCAFile: /a\nmaxPods: 110\n";
const WORKERS = `${KUBEADMS.replace("110", "120")}address: 10.0.0.21\nevictionHard:\n  memory.available: 5%\n`;
const AT = { m1: "10.0.0.11", m2: "10.0.0.12", w1: "10.0.0.21" };

async function brought(workers: string, answer: RegExp, exitCode = 0) {
  const transport = new PretendNodes((node, command) => {
    if (command.endsWith(PATH) && command.startsWith("head")) return { stdout: workers, exitCode };
    return command.endsWith(OWN) && node === "m1" ? { stdout: KUBEADMS } : undefined;
  });
  const person = new PretendPerson([answer]);
  const { session } = pretendSession({ transport, person });
  for (const [name, address] of Object.entries(AT))
    session.hosts.set(name, { name, address, user: "root", kit: KIT_PLACE });
  const { stdout, stderr } = await caught(() => bringConfig(session, BRINGS));
  return { transport, person, screen: `${stdout}${stderr}` };
}

test("each field that differs is shown before the question; each node gets its own address, and nothing else of it is changed", async () => {
  const { transport, person, screen } = await brought(WORKERS, /^Copy it to m1, m2$/);
  const [shown] = screen.split("wrote ");
  expect(shown!.split("\n").filter((line) => line.includes("kubeadm's"))).toEqual([
    `${PATH} of w1 differs in 3 fields from kubeadm's:`,
    '  address: "10.0.0.21", kubeadm\'s has none',
    '  evictionHard.memory.available: "5%", kubeadm\'s has none',
    "  maxPods: 120, kubeadm's has 110",
  ]);
  expect(person.asked).toEqual([`Copy ${PATH} from w1? | Copy it to m1, m2 | Copy nothing`]);
  for (const name of ["m1", "m2"] as const)
    expect(transport.sent.get(name)).toBe(WORKERS.replace("address: 10.0.0.21", `address: "${AT[name]}"`));
  // as a person would type it, and a file that is there already stays
  expect(transport.calls.at(-1)).toStartWith("m2: umask 077; mkdir -p /etc/kubernetes && t=$(mktemp ");
});

test("declined, nothing is written", async () => {
  const { transport, person } = await brought(WORKERS, /^Copy nothing$/);
  expect([person.asked.length, transport.sent.size]).toEqual([1, 0]);
});

const FIELDS = Array.from({ length: 4_000 }, (_, index) => `field${index}: ${"x".repeat(2)}`).join("\n");

test.each([
  [
    "is a stranger's text for the terminal",
    'a: "\\e[2J\\r\\n1  Yes"\n"\\e]0;x": "\\u202e"\n',
    /\\\\u001b|\\u001b/,
  ],
  ["has four thousand fields", FIELDS, /\nIt is longer than that: read it there/],
])("a worker's file that %s is shown in some lines, and nothing of it obeys", async (_, text, says) => {
  const { screen } = await brought(text, /^Copy nothing$/);
  expect(screen).toMatch(says);
  expect(screen.split("\n").length).toBeLessThan(220);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal obeys
  expect(screen).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f\u202e]/);
});

test.each([
  ["is larger than any configuration", "a".repeat(70_000), 0, "has more than 65536 bytes: nothing is copied"],
  ["is no YAML", "a: [", 0, "is no YAML: "],
  ["is a list", "- a\n", 0, "has no fields: nothing is copied"],
  ["stands for more than it is long", "a: &a [x]\nb: &b [*a,*a]\n".repeat(1), 0, undefined],
  ["is not there any more", "", 1, "w1 does not show"],
])("a worker's file that %s brings nothing unread", async (_, text, exitCode, says) => {
  const { transport, person, screen } = await brought(text, /^Copy nothing$/, exitCode);
  expect([transport.sent.size, person.asked.length]).toEqual([0, says === undefined ? 1 : 0]);
  if (says !== undefined) expect(screen).toContain(says);
});
