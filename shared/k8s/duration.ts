/** Durations as Kubernetes' configurations have them: Go's time.ParseDuration (time/format.go). */
import { Fail } from "../fail.ts";

/** Hours. */
const UNITS: Record<string, number> = {
  h: 1,
  m: 1 / 60,
  s: 1 / 3600,
  ms: 1 / 3_600_000,
  us: 1 / 3_600_000_000,
  "\u00b5s": 1 / 3_600_000_000,
  "\u03bcs": 1 / 3_600_000_000,
  ns: 1 / 3_600_000_000_000,
};

const PART = /(\d+\.?\d*|\.\d+)(h|ms|us|\u00b5s|\u03bcs|ns|m|s)/gy;

/** Hours of `8760h0m0s`, `90m`, `1.5h`, `-1h`; a bare `0` is 0. Errors: Fail where Go would not take it, with `field`. */
export function hoursOf(duration: string, field: string): number {
  const [, sign = "", text = ""] = /^([+-]?)(.*)$/s.exec(duration)!;
  const parts = [...text.matchAll(PART)];
  const isWhole = parts.length > 0 && parts.map(([part]) => part).join("") === text;
  if (text !== "0" && !isWhole)
    throw new Fail(`Cannot read the duration "${duration}" in ${field}`, {
      hint: `such as 8760h0m0s; it is in the ConfigMap kubeadm-config of kube-system: ./bunw scripts/00-assess.ts --json`,
    });
  const hours = parts.reduce((sum, [, number, unit]) => sum + Number(number) * UNITS[unit!]!, 0);
  return sign === "-" ? -hours : hours;
}
