/**
 * Nodes for who follows a plan, without ssh: what is typed on each is written down, and answered by a table. And a person
 * who answers questions by words of the way that is chosen.
 */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { CONNECTION_LOST, type Host, type Output, type Transport } from "../../shared/follow/host.ts";
import type { AskedNow, Person } from "../../shared/follow/person.ts";
import { type Logged, newSession, type Session } from "../../shared/follow/session.ts";
import { linesOfRunbook } from "../../shared/follow/trusted-plan.ts";
import { KIT_PLACE } from "../../shared/plan/kit-place.ts";

const RUNBOOK = readFileSync(join(import.meta.dir, "../../RUNBOOK.md"), "utf8");
const DONE: Output = { exitCode: 0, stdout: "", stderr: "" };

/** What a node prints for a command; undefined: nothing, exit code 0. */
export type Answers = (node: string, command: string) => Partial<Output> | undefined;

export class PretendNodes implements Transport {
  /** "m1: ./bunw scripts/01-etcd.ts", without the folder of the kit. */
  readonly calls: string[] = [];
  /** "m1 → w1: token". */
  readonly carried: string[] = [];
  readonly met: string[] = [];
  /** Name → the text that was last sent to a command there. */
  readonly sent = new Map<string, string>();
  /** Names that do not answer by ssh. */
  readonly off = new Set<string>();
  readonly #answers: Answers;

  constructor(answers: Answers) {
    this.#answers = answers;
  }

  async meet({ name }: Host): Promise<string | undefined> {
    this.met.push(name);
    return this.off.has(name) ? "it does not answer by ssh" : undefined;
  }

  async run(
    { name }: Host,
    command: string,
    { onLine, input }: Parameters<Transport["run"]>[2] = {},
  ): Promise<Output> {
    if (input instanceof Uint8Array) this.sent.set(name, Buffer.from(input).toString());
    const line = command.replace(`cd ${KIT_PLACE} && `, "");
    this.calls.push(`${name}: ${line}`);
    if (this.off.has(name)) return { ...DONE, exitCode: CONNECTION_LOST };
    const output = { ...DONE, ...this.#answers(name, line) };
    for (const text of output.stderr.split("\n")) onLine?.(text);
    return output;
  }

  async onTerminal(host: Host, command: string): Promise<number> {
    return (await this.run(host, `${command}   # terminal`)).exitCode;
  }

  async pipe(from: Host, pack: string, to: Host, unpack: string): Promise<string | undefined> {
    const names = pack.replace(/^.* -cf - /, "");
    this.carried.push(
      `${from.name} → ${to.name}: ${pack.includes("find .") ? unpack.replace(/^.* > /, "") : names}`,
    );
    return undefined;
  }

  /** The scripts that were typed, without looks and kits. */
  typed(): string[] {
    return this.calls.filter((call) => / \.\/bunw (?!scripts\/(?:plan|00-assess)\.ts)|systemctl/.test(call));
  }
}

/** Chooses the way that has these words, question by question; a question that is not foreseen ends the test. */
export class PretendPerson implements Person {
  readonly isThere = true;
  readonly asked: string[] = [];
  /** All that was shown with the questions, a line each. */
  readonly shown: string[] = [];
  readonly #ways: readonly RegExp[];
  readonly #paths: string[];

  /** `paths`: one for each question about a path; behind the last one, Enter alone. */
  constructor(ways: readonly RegExp[], ...paths: readonly string[]) {
    this.#ways = ways;
    this.#paths = [...paths];
  }

  async choose({ text, ways }: AskedNow): Promise<number | undefined> {
    this.asked.push(`${text[0]} | ${ways.join(" | ")}`);
    this.shown.push(...text, ...ways);
    const index = this.#ways.flatMap((wanted) => {
      const found = ways.findIndex((way) => wanted.test(way));
      return found < 0 ? [] : [found];
    })[0];
    if (index === undefined) throw new Error(`nobody has foreseen: ${this.asked.at(-1)}`);
    return index;
  }

  async path(question: string): Promise<string | undefined> {
    this.asked.push(question);
    return this.#paths.shift();
  }
}

interface Given {
  transport: Transport;
  person: Person;
  more?: Partial<Session>;
}

/** A repair from a machine that has met nobody. `logged`: its log. */
export function pretendSession({ transport, person, more = {} }: Given) {
  const dir = mkdtempSync(join(tmpdir(), "follow-"));
  const path = join(dir, "kit.tar.gz");
  writeFileSync(path, "a kit");
  const logged: Pick<Logged, "node" | "command" | "seconds">[] = [];
  const session = newSession({
    ...{ transport, person, kit: async () => ({ path, sum: "of this kit", unpack: "unpack the kit" }) },
    runbookLines: linesOfRunbook(RUNBOOK),
    first: { name: "10.0.0.11", address: "10.0.0.11", user: "root", kit: KIT_PLACE },
    ...{ words: {}, deep: false, mayMakeKeys: false, mayBegin: false, cleansUp: false },
    ...{ folder: dir, addresses: new Map() },
    ...{ again: "npm run repair -- root@10.0.0.11", log: { add: (line) => void logged.push(line) } },
  });
  return { session: Object.assign(session, more), logged };
}
