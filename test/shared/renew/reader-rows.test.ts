/** What the holders of an older certificate are told: by when, and that it is over. */
import { expect, test } from "bun:test";
import { found } from "../../../shared/checks/check.ts";
import type { CaReader } from "../../../shared/renew/ca-reader.ts";
import { oldCaHolders, readerRows } from "../../../shared/renew/reader-rows.ts";

const NOW = new Date("2027-11-01T00:00:00Z");
const [T, BEFORE] = [new Date("2027-11-13T08:00:00Z"), new Date("2027-10-01T00:00:00Z")];
const PATH = "/etc/kubernetes/pki/etcd/ca.crt";
const etcd: CaReader = {
  ...{ name: "etcd", ca: "etcd-ca", path: PATH },
  ...{ started: new Date("2027-03-02T10:00:00Z"), changed: new Date("2027-05-01T12:00:00Z") },
};
const kubelet: CaReader = { ...etcd, name: "kubelet", ca: "ca", path: "/etc/kubernetes/kubelet.conf" };

const said = (readers: readonly CaReader[], now = NOW) =>
  readerRows(readers, now).map(({ look, ...row }) => {
    const { id, what, result, severity, state, detail } = found(row, look() as string);
    return [id, what, result, severity, state, detail].filter(Boolean).join(" | ");
  });

test("one that holds an older one is told until when, and once that is over, that it is", () => {
  const held = [{ ...etcd, holds: "an older one", until: T } as const];
  const since = `started at 2027-03-02T10:00:00Z, before ${PATH} was renewed at 2027-05-01T12:00:00Z: it holds the one that`;
  const what = "ca-held | the current CA in the memory of etcd";
  expect(said(held)).toEqual([`${what} | warning | soon | ${since} expires on 2027-11-13, 12 days from now`]);
  expect(said(held, T)).toEqual([`${what} | failed | outage | old CA | ${since} has expired on 2027-11-13`]);
});

test("one that may hold it is never a failure; where no older one is known, nothing is said", () => {
  const may = [{ ...etcd, until: T }];
  expect(said(may)[0]).toContain("was written at 2027-05-01T12:00:00Z: it may hold the one that expires on");
  expect(said(may, T)[0]).toContain("| warning | soon | started");
  expect(said([{ ...etcd, holds: "an older one" }])[0]).toEndWith("it holds an older one");
  expect(said([etcd])).toEqual([
    "ca-held | the current CA in the memory of etcd | ok | nothing says that it is an older one",
  ]);
});

test("of several files that one process has read, the first that ends and is sure", () => {
  const later = new Date("2028-01-01T00:00:00Z");
  const all = [
    { ...etcd, path: "/a", until: BEFORE },
    { ...etcd, path: "/b", holds: "an older one", until: later },
    { ...etcd, path: "/c", holds: "an older one", until: T },
  ] as const;
  expect(said(all)).toHaveLength(1);
  expect(said(all)[0]).toContain("before /c was renewed");
});

test("a file that is old comes before a restart of who reads it; one that has expired has its own check", () => {
  const old = { ...kubelet, holds: "an older one", until: T, fileUntil: T } as const;
  expect(said([old])).toEqual([
    "ca-file | /etc/kubernetes/kubelet.conf | warning | soon | still has the CA's certificate that expires on 2027-11-13, 12 days from now; a renewed one of the same key is here, and kubelet reads it when it starts",
  ]);
  expect(said([old], T)[0]).toStartWith("ca-held | the current CA in the memory of kubelet | failed");
  expect(said([{ ...old, started: undefined, holds: undefined }])[0]).not.toContain("reads it");
});

test("all is well; nothing runs that reads it once", () => {
  expect(
    said([
      { ...etcd, holds: "today's" },
      { ...kubelet, holds: "today's" },
    ]),
  ).toEqual([
    "ca-held | the current CA in the memory of etcd, kubelet | ok | nothing says that it is an older one",
  ]);
  expect(said([{ ...etcd, started: undefined }])).toEqual([]);
});

test("holders for metrics: each process and file once", () => {
  const old = { ...kubelet, holds: "an older one", until: T, fileUntil: T } as const;
  expect(
    oldCaHolders([old, { ...old, name: "kube-scheduler" }, { ...etcd, holds: "today's", until: T }]),
  ).toEqual([
    { kind: "process", name: "kubelet", until: T },
    { kind: "process", name: "kube-scheduler", until: T },
    { kind: "file", name: kubelet.path, until: T },
  ]);
});

test("a static pod that may have read another client certificate is named with what lets it read the new one", () => {
  const vip = { ...etcd, name: "kube-vip", path: "/etc/kubernetes/admin.conf", otherUser: true } as const;
  expect(said([vip])).toEqual([
    "user-held | the client certificate in the memory of kube-vip | warning | soon | started at 2027-03-02T10:00:00Z, before /etc/kubernetes/admin.conf was written: it may hold the old client certificate, which expires earlier",
  ]);
});
