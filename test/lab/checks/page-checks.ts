/** What the checks of the plan's page say, one line each. */
let red = 0;

export function equal(name: string, got: unknown, wanted: unknown) {
  check(name, got === wanted, `got ${JSON.stringify(got)}, wanted ${JSON.stringify(wanted)}`);
}

export function check(name: string, ok: boolean, detail = "") {
  if (!ok) red++;
  console.log(ok ? `ok: ${name}` : `not ok: ${name}: ${detail}`);
}

export const isGreen = () => red === 0;
