import { expect, test } from "bun:test";
import { example, exampleWithArticle } from "../../fixtures/rehearsal-example.ts";
import { page } from "../report/html.ts";
import { groups, pulse, timeline } from "../report/terminal.ts";

test("timeline() lists the incident in the order in which it happened", () => {
  const lines = timeline(example).split("\n");
  expect(lines.slice(0, 7)).toEqual([
    " kube-pki-repair rehearsal   scenario all-lost   Kubernetes v1.34.4   1 control plane node and 1 worker   real kubelet, containerd, etcd",
    "    0.0 s  rm -rf /etc/kubernetes on cp1 and w1",
    "    9.4 s  the control plane is gone                    11 of 11 workload containers still run",
    "   19.6 s  systemctl stop kubelet                0.3 s  ",
    "   20.0 s  00-assess                             0.4 s  verdict: all CA keys lost on this node <try the disk first>",
    "   20.4 s  01-etcd                               3.2 s  done: same etcd proved",
    "   22.8 s  etcd back",
  ]);
  expect(lines.at(-2)).toBe(
    " fresh kubeadm init + join of the same lab: 19.8 s; repair 11.6 s (0.59x); all clients and pods well 26.2 s after its first command",
  );
  expect(lines.at(-1)).toBe(" recovered: 4 of 4 checks passed");
});

test("timeline() names what hung and what failed", () => {
  const text = timeline(exampleWithArticle);
  expect(text).toContain("130.0 s  HUNG  could not find a JWS signature");
  expect(text).toContain(
    "NOT RECOVERED: 1 of 2 checks passed\n   failed: every pod is Ready: not Ready: coredns-1",
  );
});

test("groups() puts one script's runs on several nodes together, and keeps its sub-commands apart", () => {
  expect(groups(example.steps).map((group) => group.name)).toEqual(
    ["systemctl stop kubelet", "00-assess", "01-etcd", "02-control-plane"].concat([
      "03-workers open",
      "03-join",
      "03-workers close",
      "04-sa-tokens",
      "05-verify",
    ]),
  );
});

test("pulse() says whether a heartbeat came back", () => {
  expect(pulse(example.heartbeats[0]!)).toBe("284 of 284 calls answered, no gap");
  expect(pulse(exampleWithArticle.article!.heartbeats[1]!)).toBe("31 of 61 calls answered; never came back");
});

test("pings that were lost are shown with their pair and moment, and new pods with their first answer", () => {
  expect(
    timeline(example)
      .split("\n")
      .filter((line) => /ping|new pods/.test(line)),
  ).toEqual([
    " pings between old pods: 0 of 2929 lost",
    " pings from and to new pods: 12 of 400 lost, at most 1.5 s (moving-a to staying-b), at 31.0–32.5 s",
    " 1 new pods got the first answer of another pod after 1.6 s at most; cluster DNS without endpoints: 3.5 s",
  ]);
  expect(page(example)).toContain("Pings between pods");
  expect(page({ ...example, pings: [], newPods: [] })).not.toContain("Pings between pods");
});

test("page() needs nothing from elsewhere and shows foreign text as text", () => {
  const html = page(exampleWithArticle);
  expect(html).not.toMatch(/<script|<link|<img|src=|@import|url\(/);
  expect(html).toContain("&lt;try the disk first&gt;");
  expect(html).not.toContain("NaN");
  expect(html).not.toContain("undefined");
});
