/**
 * The course of a repair, for each beginning: the tasks of the one table. And what follows of it where keys
 * are lost.
 */
import { expect, test } from "bun:test";
import { command, commandChain, inOneLine } from "../../../shared/again.ts";
import {
  courseFrom,
  type RepairState,
  type Task,
  todoOfPart1,
  todosIfKeysAreLost,
  wholeRepairLine,
} from "../../../shared/facts/course.ts";

/** [damage, its tasks; here OWN is what every control plane node does]; alone, if not said otherwise. */
const ROWS: [RepairState, tasks: string][] = [
  [{}, "hold old-cas OWN verify"],
  [{ others: ["m2"] }, "hold look old-cas hand-over unpack etcd-there OWN verify"],
  [{ expired: "all" }, "old-cas JOIN verify"],
  [{ expired: "some" }, "hold old-cas JOIN verify"],
  [{ expired: "all", caEnded: true }, "old-cas JOIN tokens verify"],
  [{ expired: "all", others: ["m2"] }, "old-cas etcd-there JOIN verify"],
  [{ expired: "some", others: ["m2"] }, "hold look old-cas hand-over unpack etcd-there JOIN verify"],
  [{ expired: "all", lost: ["sa"] }, "hold new-cas JOIN tokens verify"],
  [{ expired: "all", found: true }, "hold salvage old-cas JOIN verify"],
  [{ lost: ["etcd-ca"] }, "hold new-internal-cas OWN verify"],
  [
    { lost: ["etcd-ca", "front-proxy-ca"], others: ["m2"] },
    "hold look end-etcd new-internal-cas hand-over unpack etcd-there OWN verify",
  ],
  [{ lost: ["ca"] }, "hold new-cas JOIN tokens verify"],
  [{ lost: ["sa"] }, "hold new-cas OWN tokens verify"],
  [
    { lost: ["sa", "etcd/ca"], others: ["m2"] },
    "hold look-around end-etcd new-cas hand-over unpack etcd-there OWN tokens verify",
  ],
  [
    { lost: ["ca"], found: true, others: ["m2"] },
    "hold look-around salvage new-cas hand-over unpack etcd-there JOIN tokens verify",
  ],
  [{ lost: ["ca", "sa"], oldKey: "in tokens" }, "hold token-key new-cas JOIN tokens retire verify"],
  [{ lost: ["sa"], oldKey: "here" }, "hold new-cas OWN tokens retire verify"],
  [
    { lost: ["sa"], oldKey: "in tokens", others: ["m2"] },
    "hold look-around token-key new-cas hand-over unpack etcd-there old-key-there OWN tokens retire verify",
  ],
  [{ lost: ["ca"], oldKey: "in tokens" }, "hold new-cas JOIN tokens verify"],
  [{ lost: ["etcd-ca"], oldKey: "in tokens" }, "hold new-internal-cas OWN verify"],
  [{ lost: ["etcd-ca"], found: true }, "hold salvage new-internal-cas OWN verify"],
  [{ found: true, others: ["m2"] }, "hold salvage old-cas hand-over unpack etcd-there OWN verify"],
  [{ leavesOut: true }, "hold old-cas OWN delete-nodes verify"],
];

/** Behind each proof. */
const END = (several: boolean) =>
  ` backup ${several ? "backup-there " : ""}backup-away report remove verify-again remove-kit`;

test.each(ROWS)("%j: %s, and the end", (state, tasks) => {
  const own = tasks
    .replace("OWN", "control-plane open close")
    .replace("JOIN", "control-plane open join close");
  expect(courseFrom(state).join(" ")).toBe(own + END(state.others !== undefined));
});

test.each<[RepairState, Task, string]>([
  [{ leavesOut: true }, "control-plane", "control-plane open close delete-nodes verify"],
  [{ lost: ["ca"] }, "open", "open join close tokens verify"],
])("%j, from %s on: %s", (state, first, tasks) => {
  expect(courseFrom(state, first).join(" ")).toBe(tasks + END(false));
});

test.each([
  [[], ""],
  [["etcd-ca"], "--new-internal-cas"],
  [["etcd/ca", "front-proxy-ca"], "--new-internal-cas"],
  [["etcd-ca", "sa"], "--new-cas"],
  [["ca"], "--new-cas"],
] as const)("part 1 makes the lost keys %p with the option %p", (names, option) => {
  expect(todoOfPart1(names).command).toBe(`./bunw scripts/01-etcd.ts ${option}`.trim());
  expect(todoOfPart1(names, { etcd: "elsewhere" }).command).toStartWith("./bunw scripts/00-assess.ts ");
  expect(todoOfPart1(names, { etcd: "unit" }).command).toStartWith("./bunw scripts/00-assess.ts ");
});

test("where keys are nowhere to be found, old tokens are kept valid before part 1, and only where they can be", () => {
  expect(inOneLine(todosIfKeysAreLost(["ca", "sa"], "in tokens"))).toBe(
    "./bunw scripts/00-token-key.ts, then ./bunw scripts/01-etcd.ts --new-cas",
  );
  for (const [lost, oldKey] of [
    [["ca", "sa"], "here"],
    [["ca", "sa"], "lost"],
    [["ca"], "in tokens"],
  ] as const)
    expect(inOneLine(todosIfKeysAreLost(lost, oldKey))).toBe("./bunw scripts/01-etcd.ts --new-cas");
});

test("the whole way in one line", () => {
  expect(wholeRepairLine(["ca", "sa"], "in tokens")).toBe(
    "00-token-key → 01-etcd --new-cas → 02-control-plane → 03-workers → 04-sa-tokens → 05-verify",
  );
  expect(commandChain([{ on: "cp2", command: command("00-assess --deep") }, todoOfPart1()])).toBe(
    "on cp2: 00-assess --deep → 01-etcd",
  );
});
