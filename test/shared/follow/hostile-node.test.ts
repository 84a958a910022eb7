/** A hostile node may answer, print and hold back what it likes: its own lane alone suffers, and memory is bounded. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { Host } from "../../../shared/follow/host.ts";
import { Lanes, MOST_LINES } from "../../../shared/follow/lanes.ts";
import { MOST_OUTPUT } from "../../../shared/follow/patience.ts";
import { caught } from "../../pretend/quietly.ts";
import { withSsh } from "../../pretend/ssh-of-ours.ts";

setDefaultTimeout(300_000);

const w1: Host = { name: "w1", address: "10.0.0.21", user: "root", alias: "w1", kit: "/k" };
const cp1: Host = { name: "cp1", address: "10.0.0.11", user: "root", alias: "cp1", kit: "/k" };

test("a banner is shown as the node's words, a few lines of it, without what a terminal obeys", async () => {
  const meets = `printf 'Type a number (1-3): \\033[2J\\n' >&2; for i in $(seq 1000); do echo "line $i" >&2; done`;
  const { value, said } = await withSsh((ssh) => ssh.meet(w1), { meets });
  expect(value).toBeUndefined();
  expect(said[0]).toBe("w1, by ssh: Type a number (1-3): \\u001b[2J");
  expect(said.length).toBeLessThan(40);
  for (const line of said) expect(line).toStartWith("w1, by ssh: ");
});

test("a host key that is another than before is the reason, and no silence", async () => {
  const meets = `echo '@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @' >&2; echo 'Host key verification failed.' >&2; exit 255`;
  const { value } = await withSsh((ssh) => ssh.meet(w1), { meets });
  expect(value).toBe("its host key is another than the known one: Host key verification failed.");
  const off = await withSsh((ssh) => ssh.meet(w1), {
    meets: "echo 'ssh: connect to host: No route' >&2; exit 255",
  });
  expect(off.value).toBe("it does not answer by ssh: ssh: connect to host: No route");
  const fine = await withSsh((ssh) => ssh.meet(w1));
  expect(fine.value).toBeUndefined();
});

test("what a login shell prints before a command is neither its answer nor a byte of a file", async () => {
  const { value } = await withSsh(
    async (ssh, dir) => {
      mkdirSync(`${dir}/there`);
      writeFileSync(`${dir}/token`, "secret");
      const answer = await ssh.run(w1, "echo '{}'");
      const why = await ssh.pipe(cp1, `tar -C ${dir} -cf - token`, w1, `tar -C ${dir}/there -xf - token`);
      return { answer, why, token: readFileSync(`${dir}/there/token`, "utf8") };
    },
    { logsIn: "echo Welcome to this node; echo nothing to see" },
  );
  expect(value).toMatchObject({ answer: { stdout: "{}\n", exitCode: 0 }, why: undefined, token: "secret" });
});

test.each([
  ["lines without end", "yes", "out"],
  ["a line without end", "tr '\\0' x < /dev/zero", "out"],
  ["lines without end as progress", "yes >&2", "err"],
  ["a line without end as progress", "tr '\\0' x < /dev/zero >&2", "err"],
  ["nothing but line breaks", "yes '' >&2", "err"],
])("%s: the connection is ended, and the reason is said before the node's own words", async (_, command) => {
  const before = process.memoryUsage.rss();
  const lines: string[] = [];
  const { value } = await withSsh((ssh) =>
    ssh.run(w1, command, { onLine: (line) => void lines.push(line.slice(0, 10)) }),
  );
  expect(value.exitCode).toBe(124);
  expect(value.stderr).toStartWith("error: w1 has printed more than 8 MB");
  expect(value.stdout.length).toBeLessThanOrEqual(MOST_OUTPUT);
  expect(value.stderr.length).toBeLessThanOrEqual(MOST_OUTPUT + 1000);
  expect(process.memoryUsage.rss() - before).toBeLessThan(60 * MOST_OUTPUT);
});

test.each([
  ["says nothing", "exec sleep 1000"],
  ["does not read", "exec sleep 1000"],
])("a node that %s is left after a while: it is no lost connection", async (what, command) => {
  const input = what === "does not read" ? new Uint8Array(50e6) : undefined;
  const { value } = await withSsh((ssh) => ssh.run(w1, command, { input }), { quiet: 0.5 });
  expect(value.exitCode).toBe(124);
  expect(value.stderr).toStartWith("error: w1 has said nothing for ");
});

test("a file without end fills no node and no memory: both ends are left, with the reason", async () => {
  const { value } = await withSsh(async (ssh, dir) => {
    const why = await ssh.pipe(w1, "cat /dev/zero", cp1, `cat > ${dir}/w1.tar`);
    return { why, bytes: statSync(`${dir}/w1.tar`).size };
  });
  expect(value.why).toContain("w1 has sent more than 64 MB");
  expect(value.bytes).toBeLessThanOrEqual(64 * 2 ** 20 + 2 ** 20);
});

test("a node that takes no byte of a file is left, and not the one that has it", async () => {
  const { value } = await withSsh(
    (ssh) => ssh.pipe(cp1, "head -c 40000000 /dev/zero", w1, "exec sleep 1000"),
    {
      quiet: 0.5,
    },
  );
  expect(value).toContain("nothing has come from cp1 to w1 for ");
});

test("without a terminal one node cannot fill the log of all: some lines, then it is said that more came", async () => {
  const { stderr } = await caught(async () => {
    using lanes = new Lanes(["cp1", "w1"]);
    for (let i = 0; i < 10 * MOST_LINES; i++) lanes.show("w1", `line ${i}`);
    lanes.show("cp1", "2.1 starts");
  });
  const shown = stderr.split("\n").filter((line) => line.includes("w1:"));
  expect(shown).toHaveLength(MOST_LINES + 1);
  expect(shown.at(-1)).toBe("  w1: more lines of it are not shown");
  expect(stderr).toContain("  cp1: 2.1 starts\n");
});

const DRIPS = "while :; do echo .; sleep 0.05; done";

test("a node that sends a little for ever is left behind its limit, with the reason, where nobody can be asked", async () => {
  const { value } = await withSsh((ssh) => ssh.run(w1, DRIPS, { most: 0.5 }));
  expect(value.exitCode).toBe(124);
  expect(value.stderr).toStartWith("error: w1 has been at work for 0.5 s, and has not ended: ");
});

test.each([
  ["sends a little for ever", DRIPS, { most: 0.3 }, "w1 has been at work for 0.3 s, and has not ended"],
  ["says nothing", "exec sleep 1000", { quiet: 0.3 }, "w1 has said nothing for 0.3 s"],
])(
  "where a node %s, somebody decides each time, and nothing ends without his word",
  async (_, command, how, why) => {
    const asked: string[] = [];
    const answers = [true, true, false];
    const onLate = async (words: string) => {
      asked.push(words);
      return answers.shift()!;
    };
    const { value } = await withSsh((ssh) => ssh.run(w1, command, { ...how, onLate }));
    expect(asked).toEqual([why, why, why]);
    expect(value.exitCode).toBe(124);
  },
);

test("a question about a node that ends meanwhile is taken back, and its answer counts", async () => {
  let isTaken = false;
  const onLate = async (_: string, signal: AbortSignal) => {
    await new Promise((done) => signal.addEventListener("abort", done));
    isTaken = true;
    return false;
  };
  const { value } = await withSsh((ssh) => ssh.run(w1, "sleep 0.6; echo done", { quiet: 0.2, onLate }));
  expect(value).toMatchObject({ exitCode: 0, stdout: "done\n" });
  expect(isTaken).toBe(true);
});

test("a file that comes byte by byte for ever is decided in the same way", async () => {
  const pack = "while :; do printf .; sleep 0.05; done";
  const { value } = await withSsh((ssh, dir) => ssh.pipe(w1, pack, cp1, `cat > ${dir}/w1`, { most: 0.4 }));
  expect(value).toContain("w1 has sent to cp1 for 0.4 s, and has not ended");
});

test("a node that lets nobody in, and does not refuse either, is left after a while", async () => {
  const meets = "while :; do echo 'a moment' >&2; sleep 0.05; done";
  const { value } = await withSsh((ssh) => ssh.meet(w1), { meets, longestMeeting: 0.5 });
  expect(value).toStartWith("within 0.5 s it has let nobody in by ssh");
});

test("many nodes are met at the same time, and a slow one holds up no other", async () => {
  const nodes = Array.from(
    { length: 10 },
    (_, i): Host => ({ ...w1, name: `w${i}`, address: `10.0.1.${i}` }),
  );
  const meets = `mkdir -p "$RAN.d"; touch "$RAN.d/$$"; for i in $(seq 200); do [ $(ls "$RAN.d" | wc -l) -ge 10 ] && exit 0; sleep 0.05; done; exit 9`;
  const { value } = await withSsh(
    async (ssh) => {
      await ssh.run({ ...cp1, isHere: true }, "true");
      return await Promise.all(nodes.map((node) => ssh.meet(node)));
    },
    { meets },
  );
  expect(value).toEqual(nodes.map(() => undefined));
});
