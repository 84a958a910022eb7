/**
 * Loaded before a script (bun --preload): its clock is off by PRETEND_CLOCK milliseconds, from the first line
 * on.
 */
const off = Number(process.env.PRETEND_CLOCK);
const Right = globalThis.Date;

class Shifted extends Right {
  constructor(...given: [] | [number | string | Date]) {
    super(...((given.length === 0 ? [Right.now() + off] : given) as [number]));
  }

  static override now() {
    return Right.now() + off;
  }
}

globalThis.Date = Shifted as DateConstructor;
