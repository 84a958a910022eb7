/**
 * A worker that has lost the manifest of a static pod of its own, such as a balancer in front of the API. Only its mirror
 * pod in etcd's data has it, until that kubelet is back. Its kubelet has written it: the operator reads it, and decides.
 */

import { Fail } from "../fail.ts";
import { manifestName } from "../manifests/on-disk.ts";
import { listed } from "../plain.ts";
import { workersPods } from "../workers/own-pods.ts";
import { onYourMachine, printedAs, reachedAs } from "./by-hand.ts";
import type { Way } from "./decision-ways.ts";
import type { Note, Surroundings } from "./note.ts";
import { manifestLine, placeOfPod } from "./pod-lines.ts";

export function workersPodsNotes({ facts, nodes }: Surroundings): Note[] {
  const [here] = nodes;
  const lackers = facts.answers.nodes.filter(({ lostPods, joins }) => joins && lostPods.length > 0);
  if (!here || !facts.clusterData || lackers.length === 0) return [];
  const all = workersPods(facts.clusterData, []);
  if (all instanceof Fail) return [{ text: `Static pods of workers: ${all.message}.`, commands: [] }];
  const lost = lackers.flatMap(({ name, lostPods }) =>
    (all.get(name) ?? []).flatMap((pod) =>
      lostPods === "all" || lostPods.includes(pod.name) ? [{ pod: pod.name, worker: name }] : [],
    ),
  );
  return [...Map.groupBy(lost, ({ pod }) => pod)].map(([pod, own]): Note => {
    const to = own.map(({ worker }) => worker);
    const file = manifestName(pod);
    const ends = nodes.filter(({ name }) => to.includes(name));
    const from = reachedAs(here, facts.user);
    const ways: Way[] = [
      {
        does: `Put ${pod} back on ${listed(to)}: its manifest is shown first`,
        puts: { pod, on: here.name, to, file },
      },
      { does: `Leave ${pod} lost: its workers join without it`, leaves: true },
    ];
    return {
      text: `${pod}, a static pod of ${listed(to)}, is lost there. etcd's data still has it, as the kubelet there has reported it: read it first. What it mounts is not in it. With it back before part 3, a kubelet leads to its own balancer again.`,
      commands: onYourMachine(to, (name) => {
        const end = ends.find((one) => one.name === name)!;
        return printedAs(placeOfPod(file), from, reachedAs(end, facts.user), manifestLine(name, pod));
      }),
      decides: "workers-pods",
      ways,
    };
  });
}
