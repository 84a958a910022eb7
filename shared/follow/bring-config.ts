/**
 * A kubelet's configuration that another node has, for those that have lost it. Whoever is root there has written it, so
 * nobody brings it unread: each field that differs from kubeadm's own is shown first, and the operator says whether it goes.
 */
import { isIP } from "node:net";
import { attemptLater, Fail } from "../fail.ts";
import { withAddress } from "../node/kubelet-address.ts";
import { listed, quoteUntrusted } from "../plain.ts";
import type { ConfigToBring } from "../plan/decision-ways.ts";
import { answer, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { isMapping, readMapping } from "../yaml.ts";
import { MOST, patience } from "./late.ts";
import { putFile, showWhole } from "./put-file.ts";
import type { Session } from "./session.ts";

/** Each node gets its own address in the place of the other's. What cannot be read is said, and nothing is brought. */
export async function bringConfig(session: Session, brings: ConfigToBring) {
  const { path, from, to, own, on } = brings;
  const look = async () => {
    const text = await textOn(session, from, path);
    const fields = fieldsIn(text, { path, on: from });
    return { text, fields, kubeadms: fieldsIn(await textOn(session, on, own), { path: own, on }) };
  };
  const looked = await attemptLater(look);
  if (looked instanceof Fail) return say(`${quoteUntrusted(looked.message)}: nothing is copied`);
  if (!showDifference(brings, differencesOf(looked.fields, looked.kubeadms))) return;
  const ways = [`Copy it to ${listed(to)}`, "Copy nothing"];
  if ((await session.person.choose({ text: [`Copy ${path} from ${from}?`], ways })) !== 0) return;
  for (const name of to) {
    const { address = "" } = session.hosts.get(name) ?? {};
    const text = isIP(address) > 0 ? withAddress(looked.text, address) : looked.text;
    await putFile(session, { path, name, input: Buffer.from(text) });
  }
}

/** Bytes. A KubeletConfiguration has some kilobytes. */
const LARGEST = 64 * 2 ** 10;

async function textOn(session: Session, name: string, path: string): Promise<string> {
  const hint = `look at it by hand: cat ${path}`;
  const host = session.hosts.get(name);
  if (!host) throw new Fail(`Nothing proves the address of ${name}`, { hint });
  const line = shell`head -c ${String(LARGEST + 1)} ${path}`;
  answer(`${name}# ${line}`);
  const { exitCode, stdout, stderr } = await session.transport.run(host, line, patience(session, MOST.file));
  session.log.add({ node: name, command: line, seconds: 0, exitCode });
  if (exitCode !== 0) throw new Fail(`${name} does not show ${path}: ${quoteUntrusted(stderr)}`, { hint });
  if (Buffer.byteLength(stdout) > LARGEST)
    throw new Fail(`${path} on ${name} has more than ${LARGEST} bytes`, { hint });
  return stdout;
}

type Fields = ReadonlyMap<string, string>;

/** "authentication.x509.clientCAFile" → its value as JSON. */
function fieldsIn(text: string, { path, on }: { path: string; on: string }): Fields {
  const hint = `look at it by hand: cat ${path}`;
  const pairs = (value: unknown, name: string): [string, string][] =>
    isMapping(value)
      ? Object.entries(value).flatMap(([key, one]) => pairs(one, name === "" ? key : `${name}.${key}`))
      : [[name, JSON.stringify(value)]];
  return new Map(pairs(readMapping(text, `${path} on ${on}`, { hint, shape: {} }), ""));
}

function differencesOf(own: Fields, kubeadms: Fields): string[] {
  const names = [...new Set([...own.keys(), ...kubeadms.keys()])].sort();
  return names.flatMap((name) => {
    const [here, other] = [own.get(name), kubeadms.get(name)];
    if (here === other) return [];
    return `${name}: ${here ?? "none"}, kubeadm's has ${other ?? "none"}`;
  });
}

function showDifference({ path, from }: ConfigToBring, differences: readonly string[]): boolean {
  const count = differences.length === 0 ? "does not differ" : `differs in ${differences.length} fields`;
  return showWhole(`${path} of ${from} ${count} from kubeadm's:`, differences);
}
