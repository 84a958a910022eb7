/**
 * At a real terminal: what was typed before a question is not its answer, be it a line, several, or half of one. Ctrl-C at
 * a question is no answer.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

setDefaultTimeout(300_000);

const PERSON = join(import.meta.dir, "../../shared/follow/person.ts");

/** Asks twice; before each question it waits until its parent has typed. */
const ASKS = `
import { AtTerminal } from ${JSON.stringify(PERSON)};
const person = new AtTerminal();
for (const question of ["first", "second"]) {
  const typed = Promise.withResolvers();
  process.once("SIGUSR1", typed.resolve);
  const alive = setInterval(() => undefined, 1000);
  console.log("@busy " + question);
  await typed.promise;
  clearInterval(alive);
  const chosen = await person.choose({ text: [question + "?"], ways: ["a", "b", "c"] });
  console.log("@chosen " + question + " " + chosen);
}
process.exit(0);
`;

test.each([
  ["a line", "1\n"],
  ["several lines", "1\n1\n1\n"],
  ["half of a line", "1"],
  ["a line, and half of one", "1\n1"],
])("%s that was typed ahead answers no question", async (_, ahead) => {
  const dir = mkdtempSync(join(tmpdir(), "typed-ahead-"));
  writeFileSync(join(dir, "asks.ts"), ASKS);
  let screen = "";
  let changed = Promise.withResolvers<void>();
  const data = (_terminal: Bun.Terminal, bytes: Uint8Array) => {
    screen += Buffer.from(bytes).toString();
    changed.resolve();
  };
  const child = Bun.spawn([process.execPath, join(dir, "asks.ts")], {
    env: { ...process.env, TERM: "xterm" },
    terminal: { cols: 100, rows: 40, data },
  });
  const terminal = child.terminal!;
  const until = async (words: string) => {
    while (!screen.includes(words)) {
      changed = Promise.withResolvers();
      await changed.promise;
    }
  };
  for (const [question, typed] of [
    ["first", "2"],
    ["second", "3"],
  ] as const) {
    await until(`@busy ${question}`);
    terminal.write(ahead);
    // the terminal has shown it, so it lies there
    await until(`@busy ${question}\r\n${ahead.split("\n")[0]}`);
    child.kill("SIGUSR1");
    await until(`${question}?`);
    await until("Type a number (1-3): ");
    terminal.write(`${typed}\n`);
    await until(`@chosen ${question} `);
    screen = screen.slice(screen.indexOf(`@chosen ${question} `));
    await until(`@chosen ${question} ${Number(typed) - 1}\r\n`);
    screen = screen.replace("Type a number", "");
  }
  expect(await child.exited).toBe(0);
  rmSync(dir, { recursive: true });
});

test("Ctrl-C at a question ends the question, and no signal comes of it", async () => {
  const dir = mkdtempSync(join(tmpdir(), "typed-ahead-"));
  writeFileSync(
    join(dir, "asks.ts"),
    `import { AtTerminal } from ${JSON.stringify(PERSON)};
     process.on("SIGINT", () => console.log("@signal"));
     const ended = await new AtTerminal().choose({ text: ["first?"], ways: ["a"] }).catch((err) => err);
     console.log("@ended " + ended.constructor.name);
     process.exit(0);`,
  );
  let screen = "";
  const isAsked = Promise.withResolvers<void>();
  const data = (_terminal: Bun.Terminal, bytes: Uint8Array) => {
    screen += Buffer.from(bytes).toString();
    if (screen.includes("Type a number (1-1): ")) isAsked.resolve();
  };
  const child = Bun.spawn([process.execPath, join(dir, "asks.ts")], {
    env: { ...process.env, TERM: "xterm" },
    terminal: { cols: 100, rows: 40, data },
  });
  await isAsked.promise;
  child.terminal!.write("\x03");
  expect(await child.exited).toBe(0);
  expect(screen).toContain("@ended Interrupted\r\n");
  expect(screen).not.toContain("@signal");
  rmSync(dir, { recursive: true });
});

const LONG_WAY =
  "Take the file from your machine. The API server needs it, and it cannot start without that file";

test("a question breaks between words on a narrow terminal", async () => {
  const dir = mkdtempSync(join(tmpdir(), "typed-ahead-"));
  writeFileSync(
    join(dir, "asks.ts"),
    `import { AtTerminal } from ${JSON.stringify(PERSON)};
     await new AtTerminal().choose({ text: ["first?", ${JSON.stringify(LONG_WAY)}], ways: [${JSON.stringify(LONG_WAY)}] });
     process.exit(0);`,
  );
  let screen = "";
  const isAsked = Promise.withResolvers<void>();
  const data = (_terminal: Bun.Terminal, bytes: Uint8Array) => {
    screen += Buffer.from(bytes).toString();
    if (screen.includes("Type a number (1-1): ")) isAsked.resolve();
  };
  const child = Bun.spawn([process.execPath, join(dir, "asks.ts")], {
    env: { ...process.env, TERM: "xterm" },
    terminal: { cols: 60, rows: 40, data },
  });
  await isAsked.promise;
  child.terminal!.write("1\n");
  expect(await child.exited).toBe(0);
  const lines = screen.slice(0, screen.indexOf("Type a number")).split("\r\n");
  expect(lines.filter((line) => line.length > 60)).toEqual([]);
  expect(lines.slice(1, 6)).toEqual([
    "first?",
    "  Take the file from your machine. The API server needs it,",
    "    and it cannot start without that file",
    "  1  Take the file from your machine. The API server needs",
    "     it, and it cannot start without that file",
  ]);
  rmSync(dir, { recursive: true });
});
