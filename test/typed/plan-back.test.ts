/** A control plane node that was away is on again: the plan has its steps, and what it alone may still have. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { readCluster } from "../../shared/facts/cluster.ts";
import type { PlanData } from "../../shared/plan/plan-answer.ts";
import { factsForPlan } from "../../shared/plan/plan-facts.ts";
import { healthyCp, otherCa, write } from "../pretend/cluster.ts";
import { pretendData } from "../pretend/control-plane-node.ts";
import { sameEtcd, serveEtcd, serveOtherMember } from "../pretend/etcd.ts";
import { expireCertificates } from "../pretend/expired.ts";
import { lookAt, type PretendNode } from "../pretend/in-process.ts";
import { ASKED, AT, MEMBERS, pasted, setAddress, three } from "../pretend/plan.ts";
import { typeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const stranger = await otherCa();
const FILE = "/etc/kubernetes/pki/sa-2024.pub";
const word = { at: "2026-01-01T00:00:00Z", by: "plan", on: "m1" };
const AWAY = { ...word, option: "without", value: "m3" };
const GIVEN_UP = { ...word, option: "start-without", value: "service-account-key-file", files: [FILE] };

function say(root: string, words: object[]) {
  write(`${root}/run/kube-pki-repair-words.json`, JSON.stringify({ made: word.at, said: words, over: [] }));
}

/** What the others said when the block asked them. */
function answers(root: string, all: Record<string, object>) {
  mkdirSync(`${root}/root/seen`, { recursive: true });
  for (const [name, answer] of Object.entries(all))
    writeFileSync(`${root}/root/seen/${name}.json`, JSON.stringify({ ...answer, node: name }));
}

interface Row {
  what: string;
  /** Of m3; unset: it is off. */
  on?: true;
  /** It is off, and its address says that nobody listens. */
  refuses?: true;
  /** Whose CA has signed what m3's etcd shows. */
  etcd?: "another's" | "ours";
  /** The CA of m3's etcd was here before: part 1 has moved it aside. */
  aside?: true;
  words?: object[];
  /** Damaged on m3, as it says. */
  damage?: object[];
  /** Said on m2. */
  there?: object[];
  args?: string;
  seen?: false;
  newKeys?: true;
  lines: string[];
  not?: RegExp;
  says?: string[];
}

const STEPS = ["m3# 01-etcd.ts", "m3# 02-control-plane.ts"];
const BRING = (to: string) =>
  `set -o pipefail; ssh -n root@${AT.m3} 'tar -C /etc/kubernetes/pki -cf - sa-2024.pub' | ssh root@${to} 'tar -C /etc/kubernetes/pki -xpkf - sa-2024.pub'`;
const EXPIRED = { id: "certificate-apiserver", what: "apiserver.crt", state: "!EXPIRED!" };
const ON = "m3 is on again: this plan counts it";

test.each<Row>([
  {
    what: "it is on, with an etcd of the CA from before: it cannot know that it is damaged, and gets the keys",
    on: true,
    etcd: "another's",
    words: [AWAY],
    lines: [...STEPS, "m3# LINE --move-aside"],
    // part 1 there would ask who m3 is
    not: /m2# (?:0[12]-|LINE)/,
    says: [ON],
  },
  {
    what: "the same, where part 1 has moved the old CA's certificate aside here",
    on: true,
    etcd: "another's",
    aside: true,
    words: [AWAY],
    lines: [...STEPS, "m3# LINE --move-aside"],
  },
  {
    what: "and the file that was given up may be there: it is fetched to both that start without it, whose part 2 puts the flag back",
    on: true,
    etcd: "another's",
    words: [AWAY, GIVEN_UP],
    there: [GIVEN_UP],
    lines: [...STEPS, "m1# 02-control-plane.ts", "m2# 02-control-plane.ts"],
    says: ["m3 is on again, and may have /etc/kubernetes/pki/sa-2024.pub, which was given up."],
  },
  {
    what: "this run's line says that it is away: so it is",
    on: true,
    etcd: "another's",
    words: [AWAY],
    args: " --without m3",
    lines: [],
    not: new RegExp(AT.m3),
  },
  { what: "it is off: it has no step", words: [AWAY, GIVEN_UP], lines: [], not: /192\.0\.2\.13|tar -C/ },
  {
    what: "it is off, and a firewall refuses connections for it: it has no step",
    refuses: true,
    words: [AWAY, GIVEN_UP],
    lines: [],
    not: /127\.77\.9\.13|tar -C/,
  },
  {
    what: "its etcd is ours, as it says that nothing is damaged there: nothing is planned",
    on: true,
    etcd: "ours",
    words: [AWAY],
    lines: [],
    not: /hand-over/,
  },
  {
    what: "its certificates have expired meanwhile, and no key is new: no key goes there",
    on: true,
    etcd: "ours",
    damage: [EXPIRED, { id: "kubelet", what: "kubelet", state: "!STOPPED!" }],
    words: [AWAY],
    lines: STEPS,
    not: /hand-over.ts pack --pass|LINE/,
  },
  {
    what: "the same, and a file is lost there, too: the keys go there",
    on: true,
    etcd: "ours",
    damage: [EXPIRED, { id: "certificate-front-proxy-ca", what: "front-proxy-ca.crt", state: "!MISSING!" }],
    words: [AWAY],
    lines: [...STEPS, "m3# LINE"],
  },
  {
    what: "the same, and this repair has made keys: they go there",
    on: true,
    etcd: "ours",
    newKeys: true,
    damage: [EXPIRED],
    words: [AWAY],
    lines: [...STEPS, "m3# LINE"],
  },
  {
    what: "nobody was asked yet: it counts, and is asked",
    on: true,
    etcd: "another's",
    words: [AWAY],
    seen: false,
    lines: STEPS,
    says: [ON, "One command looks at all nodes"],
  },
  {
    what: "an answer names files that nobody gave up here, and a flag that there is not: no line has them",
    on: true,
    etcd: "another's",
    words: [AWAY, GIVEN_UP],
    there: [
      { ...GIVEN_UP, files: ["/root/.ssh/authorized_keys", FILE] },
      { ...GIVEN_UP, value: "$(reboot)" },
    ],
    lines: STEPS,
    not: /authorized_keys|reboot/,
    says: ["m3 is on again, and may have /etc/kubernetes/pki/sa-2024.pub, which was given up."],
  },
  {
    what: "another node knows what was said, and this one does not: the line says it here",
    on: true,
    etcd: "another's",
    there: [
      AWAY,
      { ...word, option: "etcd-data", value: "/x" },
      { ...word, option: "without", value: "nobody" },
      { option: "without", value: "$(reboot)" },
    ],
    lines: [],
    says: [
      "On m2 it was said that m3 is away. Does it hold? Then print the plan here with that word.",
      "# on m1:\n./bunw scripts/plan.ts --seen /root/seen --without m3\n",
    ],
  },
])(
  "$what",
  async ({
    on,
    refuses,
    etcd,
    aside,
    words = [],
    there = [],
    damage,
    newKeys,
    args = "",
    seen = true,
    lines,
    not,
    says = [],
  }) => {
    const OFF = refuses ? "127.77.9.13" : "192.0.2.13";
    const change = ({ root }: PretendNode) => {
      say(root, words);
      if (aside)
        write(
          `${root}/root/kube-pki-repair-20260101T000000/aside/etc/kubernetes/pki/etcd/ca.crt`,
          stranger.cert,
        );
      // a repair began before the keys that are here were made
      if (newKeys)
        cpSync(`${root}/var/lib/etcd`, `${root}/root/kube-pki-repair-20200101T000000/etcd`, {
          recursive: true,
        });
    };
    const far = (objects: Parameters<typeof three>[0]) => {
      three(objects);
      if (!on) setAddress(objects, "m3", OFF);
    };
    const members = MEMBERS.map((member) =>
      on || member.name !== "m3" ? member : { ...member, peerURLs: [`https://${OFF}:2380`] },
    );
    await lookAt(
      { ...ASKED, etcd: far, members, kind: "healthy control plane node", change },
      async (node) => {
        const state = { ...sameEtcd(node.stored), members };
        using _own = serveEtcd(node.root, state);
        using _m2 = await serveOtherMember(node.root, state, AT.m2);
        using _m3 = etcd
          ? await serveOtherMember(node.root, state, AT.m3, etcd === "ours" ? undefined : stranger)
          : { [Symbol.dispose]: () => undefined };
        const well = JSON.parse((await typeHere("00-assess --json")).stdout);
        const well3 = {
          m2: { ...well, words: there },
          ...(on ? { m3: damage ? { ...well, damage, damaged: true } : well } : {}),
        };
        if (seen) answers(node.root, well3);
        const { stdout } = await typeHere(`plan${seen ? " --seen /root/seen" : ""}${args}`);
        const all = pasted(stdout);
        for (const line of lines) expect(all).toContain(line);
        if (not) expect(all.join("\n")).not.toMatch(not);
        for (const text of says) expect(stdout).toContain(text);
        if (says.some((text) => text.includes("may have")))
          for (const to of [AT.m1, AT.m2]) expect(stdout).toContain(BRING(to));
        const data = JSON.parse(
          (await typeHere(`plan --json${seen ? " --seen /root/seen" : ""}${args}`)).stdout,
        );
        const ways = (data as PlanData).decisions.flatMap(({ id, ways }) => (id === "given-up" ? ways : []));
        const both = [
          expect.stringMatching(/^Copy .*sa-2024\.pub from m3, and let part 2/),
          "Leave it given up",
        ];
        expect(ways.map(({ does }) => does)).toEqual(
          says.some((text) => text.includes("may have")) ? both : [],
        );
        expect(ca.cert).not.toBe(stranger.cert);
      },
    );
  },
);

test("on another node it was said to be away as well: its machine is on, and nobody is asked whether that holds", async () => {
  const change = ({ root }: PretendNode) => say(root, [AWAY]);
  await lookAt({ ...ASKED, members: MEMBERS, change }, async (node) => {
    using _kubelet = Bun.serve({ hostname: AT.m3, port: 10250, fetch: () => new Response() });
    const well = JSON.parse((await typeHere("00-assess --json")).stdout);
    answers(node.root, { m2: { ...well, words: [AWAY] } });
    const { stdout } = await typeHere("plan --seen /root/seen");
    expect(stdout).toContain(ON);
    expect(stdout).not.toContain("Does it hold?");
  });
});

test("a restore has left m3 behind, and the repair cannot begin yet: no line asks there, and no word is needed for it", async () => {
  await lookAt(ASKED, async () => {
    const here = await pretendData(three, MEMBERS.slice(0, 2));
    const data: typeof here = Object.create(here, { formerMembers: { value: ["m3"] } });
    const typed = { without: [], lost: [], "lost-on": [], worker: [] };
    const { lost, options: said } = await factsForPlan({ cluster: readCluster(data), data }, typed);
    expect([lost.names, said.lost]).toEqual([["m3"], []]);
  });
});

test("certificates have only expired, and a member answers nobody: that is asked, and nothing is stopped before", async () => {
  const members = MEMBERS.map((member) =>
    member.name === "m3" ? { ...member, peerURLs: ["https://192.0.2.13:2380"] } : member,
  );
  const change = ({ root }: PretendNode) => expireCertificates(root);
  await lookAt({ ...ASKED, kind: "healthy control plane node", members, change }, async () => {
    const { exitCode, stdout } = await typeHere("plan");
    expect(exitCode).toBe(3);
    expect(stdout).toContain("Say first what m3 is");
    expect(stdout).toContain("--without m3");
    expect(stdout).not.toContain("Stop the kubelet");
    expect(stdout).not.toContain("stops the loss");
  });
});

test("it was said to be away, its machine is on, and nothing answers for its etcd: nobody asks what it is", async () => {
  const members = MEMBERS.map((member) =>
    member.name === "m3" ? { ...member, peerURLs: ["https://192.0.2.13:2380"] } : member,
  );
  const asked = async (words: object[]) =>
    await lookAt({ ...ASKED, members, change: ({ root }: PretendNode) => say(root, words) }, async () => {
      using _kubelet = Bun.serve({ hostname: AT.m3, port: 10250, fetch: () => new Response() });
      return (await typeHere("plan")).stdout;
    });
  expect(await asked([])).toContain("Say first what m3 is");
  const known = await asked([AWAY]);
  expect(known).toContain(ON);
  expect(known).not.toContain("Say first what m3 is");
});
