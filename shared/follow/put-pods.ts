/**
 * Static pods that workers had of their own, back into their folder of manifests: shown first, as each worker's kubelet has
 * reported it to etcd, and only by the operator's word.
 */
import { attemptLater, Fail } from "../fail.ts";
import { listed, quoteUntrusted } from "../plain.ts";
import type { PutPod } from "../plan/decision-ways.ts";
import { manifestLine, placeOfPod } from "../plan/pod-lines.ts";
import { answer, say } from "../run.ts";
import { inKit } from "./host.ts";
import { MOST, patience } from "./late.ts";
import { putFile, showWhole } from "./put-file.ts";
import type { Session } from "./session.ts";

/** One question for all workers whose pod is the same. */
export async function putPods(session: Session, { pod, on, to, file }: PutPod) {
  const texts: { name: string; text: string }[] = [];
  for (const name of to) {
    const text = await attemptLater(() => manifestOn(session, on, { worker: name, pod }));
    if (text instanceof Fail) say(`${name}: ${quoteUntrusted(text.message)}: nothing is put there`);
    else texts.push({ name, text });
  }
  for (const [text, same] of Map.groupBy(texts, (one) => one.text)) {
    const names = same.map(({ name }) => name);
    const isWhole = showWhole(
      `${pod}, as the kubelet of ${listed(names)} has reported it:`,
      text.trimEnd().split("\n"),
    );
    if (!isWhole) continue;
    const ways = [`Put it back on ${listed(names)}`, "Put nothing there"];
    const way = await session.person.choose({
      text: [`Is this the static pod ${pod} of ${listed(names)}?`],
      ways,
    });
    if (way !== 0) continue;
    for (const name of names)
      await putFile(session, { path: placeOfPod(file), name, input: Buffer.from(text) });
  }
}

async function manifestOn(
  session: Session,
  on: string,
  { worker, pod }: { worker: string; pod: string },
): Promise<string> {
  const host = session.hosts.get(on);
  const line = manifestLine(worker, pod);
  const hint = `look at it by hand: ${line}`;
  if (!host) throw new Fail(`Nothing proves the address of ${on}`, { hint });
  answer(`${on}# ${line}`);
  const { exitCode, stdout, stderr } = await session.transport.run(
    host,
    inKit(host, line),
    patience(session, MOST.look),
  );
  session.log.add({ node: on, command: line, seconds: 0, exitCode });
  if (exitCode !== 0 || stdout.trim() === "")
    throw new Fail(`${on} does not print the manifest: ${quoteUntrusted(stderr.trim())}`, { hint });
  return stdout;
}
