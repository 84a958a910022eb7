/** etcd's unit is read as systemd reads it. */
import { expect, test } from "bun:test";
import { readEtcdUnit } from "../../../shared/etcd-location/etcd-unit.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("of the files beside etcd's unit only those named .conf are its drop-ins: a copy of an earlier one is not heeded", () => {
  using box = sandbox();
  const unit = `${box.dir}/etc/systemd/system/etcd.service`;
  const dataIn = (dir: string) => `[Service]\nEnvironment=ETCD_DATA_DIR=${dir}\n`;
  write(unit, "[Service]\nExecStart=/usr/local/bin/etcd\n");
  write(`${unit}.d/data.conf`, dataIn("/srv/etcd"));
  expect(readEtcdUnit()).toMatchObject({ dataDir: "/srv/etcd" });
  write(`${unit}.d/data.conf.bak`, dataIn("/srv/earlier"));
  expect(readEtcdUnit()).toMatchObject({ dataDir: "/srv/etcd" });
});
