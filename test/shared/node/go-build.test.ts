/** Go's build information out of a program file, whoever wrote that file. */
import { expect, test } from "bun:test";
import { type ReadAt, readGoBuild } from "../../../shared/node/go-build.ts";
import { goProgram } from "../../pretend/go-program.ts";

const MODULES = [
  "mod\texample.com/shop\tv1.2.0\th1:abc=",
  "dep\tk8s.io/client-go\tv0.0.0",
  "=>\tk8s.io/client-go\tv0.34.4\th1:def=",
  "dep\tgo.uber.org/zap\tv1.27.0\th1:ghi=",
  "build\tGOOS=linux",
  "",
].join("\n");

const of =
  (file: Buffer): ReadAt =>
  (offset, length) =>
    file.subarray(Math.min(offset, file.length), Math.min(offset + length, file.length));
const clientOf = (file: Buffer) => readGoBuild(of(file))?.modules.get("k8s.io/client-go");

test("the modules of a program, with replacements applied", () => {
  const build = readGoBuild(of(goProgram(MODULES)));
  expect(build?.go).toBe("go1.24.4");
  expect([...build!.modules]).toEqual([
    ["example.com/shop", "v1.2.0"],
    ["k8s.io/client-go", "v0.34.4"],
    ["go.uber.org/zap", "v1.27.0"],
  ]);
});

test("a program without section headers is read by its first writable segment, and the header need not be the first in it", () => {
  expect(clientOf(goProgram(MODULES, { sections: false }))).toBe("v0.34.4");
  expect(clientOf(goProgram(MODULES, { before: 4096 }))).toBe("v0.34.4");
  expect(clientOf(goProgram(MODULES, { before: 4097 }))).toBeUndefined();
});

test("what is no Go program, or is cut off anywhere, is none, and no read asks for more than two megabytes", () => {
  const whole = goProgram(MODULES);
  for (const file of [Buffer.from("#!/bin/sh\n"), Buffer.alloc(0), Buffer.alloc(4096)]) expect(readGoBuild(of(file))).toBeUndefined();
  let most = 0;
  for (let size = 0; size < whole.length; size += 7) {
    readGoBuild((offset, length) => {
      most = Math.max(most, length);
      return of(whole.subarray(0, size))(offset, length);
    });
  }
  expect(most).toBeLessThanOrEqual(2 << 20);
});

test("lying numbers in the file lead nowhere", () => {
  const lies: [string, (file: Buffer) => void][] = [
    ["endless section headers", (file) => file.writeUInt16LE(0xffff, 0x3c)],
    ["section headers of 64 kB each", (file) => file.writeUInt16LE(0xffff, 0x3a)],
    ["headers behind the end", (file) => file.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 0x28)],
    ["a string as long as the address space", (file) => file.fill(0xff, 64 + 56 + 32, 64 + 56 + 48)],
    ["a string longer than the file", (file) => file.writeUInt32LE(0x7fffffff, 64 + 56 + 32)],
    ["names of no section", (file) => file.writeUInt16LE(9, 0x3e)],
  ];
  for (const [what, lie] of lies) {
    const file = goProgram(MODULES, { sections: what !== "names of no section" });
    lie(file);
    const build = readGoBuild((offset, length) => {
      expect(length).toBeLessThanOrEqual(2 << 20);
      return of(file)(offset, length);
    });
    expect([what, build?.modules.get("k8s.io/client-go") ?? "none"]).toEqual([what, build ? "v0.34.4" : "none"]);
  }
});
