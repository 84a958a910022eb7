/** What the system refuses is a sentence and a hint, wherever it is thrown; a bug keeps its stack. */
import { afterAll, afterEach, expect, spyOn, test } from "bun:test";
import { run } from "../../shared/run.ts";
import { SYSTEM_ERRORS } from "../../shared/system-errors.ts";

const screen = spyOn(console, "error").mockImplementation(() => {});
const exit = spyOn(process, "exit").mockImplementation((() => undefined) as never);
afterEach(() => screen.mockClear());
afterAll(() => {
  screen.mockRestore();
  exit.mockRestore();
});

const CODES =
  "EACCES EPERM EROFS ENOSPC EDQUOT EMFILE ENFILE ENOMEM EAGAIN ENAMETOOLONG EIO ELOOP ESTALE EBUSY".split(
    " ",
  );
const users = [
  ["root", 0],
  ["a user", 1000],
] as const;

async function screenOf(err: Error): Promise<string> {
  await run(() => Promise.reject(err));
  return screen.mock.calls.map(([line]) => String(line)).join("\n");
}

test("these tests have all codes of the table", () => {
  expect(Object.keys(SYSTEM_ERRORS).sort()).toEqual([...CODES].sort());
});

test.each(CODES.flatMap((code) => users.map(([who, uid]) => [code, who, uid] as const)))(
  "%s to %s",
  async (code, _, uid) => {
    using _user = spyOn(process, "getuid").mockReturnValue(uid);
    for (const path of ["/etc/no-such-folder/f", undefined]) {
      screen.mockClear();
      const said = await screenOf(Object.assign(new Error("no"), { code, syscall: "open", path }));
      const subject = path ? `Cannot use "${path}"` : "The system refuses";
      expect(said).toMatch(new RegExp(`^\nerror: ${subject}: [a-z ]+ \\(${code}, open\\)\n`));
      expect(said).toMatch(/\nhint: (?:run|repair|see|make|set|give|look|mount) [^\n]+(?:\n {2}[^\n]+)*$/);
      expect(said).not.toMatch(/^\s+at |undefined|no-such-folder(?!\/f)/m);
      expect(/run it with sudo/.test(said)).toBe(uid !== 0 && /^E(ACCES|PERM)$/.test(code));
    }
  },
);

test.each([
  ["a code of no system", Object.assign(new Error("odd"), { code: "ERR_INVALID_ARG_TYPE" })],
  ["a word of every object", Object.assign(new Error("odd"), { code: "constructor" })],
  ["a bug", new TypeError("odd")],
])("%s keeps its stack", async (_, err) => {
  expect(await screenOf(err)).toMatch(/odd[\s\S]*\n {2}\|\s+at .*system-errors\.test\.ts/);
});
