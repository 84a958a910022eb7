import { expect, test } from "bun:test";
import {
  away,
  containersAt,
  containersGone,
  endpointsLost,
  podsEvicted,
  renewals,
  type Sample,
} from "../report/watch.ts";

const pod = (uid: string, more = {}) => ({
  uid,
  name: `a/${uid}`,
  ready: true,
  leaving: false,
  mirror: false,
  ...more,
});
const samples: Sample[] = [
  {
    t: 900,
    etcd: true,
    api: true,
    containers: { c1: "a/web/web", c2: "kube-system/etcd-cp1/etcd" },
    pods: [pod("p1"), pod("p2")],
    endpoints: { "a/web": 2 },
  },
  { t: 1000, etcd: true, api: true },
  { t: 2000, etcd: true, api: false, containers: { c1: "a/web/web" } },
  { t: 3000, etcd: false, api: false },
  { t: 4000, etcd: true, api: false },
  {
    t: 5000,
    etcd: true,
    api: true,
    endpoints: { "a/web": 0 },
    nodes: [{ name: "cp1", ready: true, renewed: 1500 }],
  },
  {
    t: 6000,
    etcd: true,
    api: true,
    pods: [pod("p1"), pod("p2", { leaving: true })],
    endpoints: { "a/web": 1 },
  },
  {
    t: 7000,
    etcd: true,
    api: true,
    nodes: [{ name: "cp1", ready: true, renewed: 6500 }],
    containers: { c9: "a/web/web" },
  },
];

test("away() gives the spans in which something did not answer", () => {
  expect(away(samples, "etcd", 1000)).toEqual([{ from: 2, to: 3 }]);
  expect(away(samples, "api", 1000)).toEqual([{ from: 1, to: 4 }]);
  expect(away(samples.slice(0, 4), "api", 1000)).toEqual([{ from: 1, to: null }]);
});

test("renewals() takes a Lease renewed after the API came back, not a stale Ready", () => {
  expect(renewals(samples, 5000)).toEqual(new Map([["cp1", 6500]]));
  expect(renewals(samples.slice(0, 6), 5000).size).toBe(0);
});

test("containersGone() leaves static pods out and looks no further than asked", () => {
  expect(containersAt(samples, 1000)).toBe(1);
  expect(containersGone(samples, 1000, 7000)).toEqual([]);
  expect(containersGone(samples, 1000, 7001)).toEqual(["a/web/web"]);
});

test("podsEvicted() counts a pod that is leaving; endpointsLost() the seconds without any", () => {
  expect(podsEvicted(samples, 1000, 9000)).toEqual(["a/p2"]);
  expect(podsEvicted(samples, 1000, 6000)).toEqual([]);
  const on = (node: string) =>
    samples.map((one) => ({ ...one, ...(one.pods && { pods: one.pods.map((pod) => ({ ...pod, node })) }) }));
  expect(podsEvicted(on("cp2"), 1000, 9000, ["cp2"])).toEqual([]);
  expect(podsEvicted(on("w1"), 1000, 9000, ["cp2"])).toEqual(["a/p2"]);
  const last = { t: 6500, pods: [pod("p1")] };
  expect(podsEvicted([...samples, last], 6000, 9000)).toEqual([]); // it was leaving before
  expect(endpointsLost(samples, 1000)).toEqual({ seconds: 1, services: ["a/web"] });
});
