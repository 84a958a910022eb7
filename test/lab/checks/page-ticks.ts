/** The ticks of the plan's page: they stay, and those that the page came with count. */
import { writeFileSync } from "node:fs";
import { type Browser, evaluate, visit } from "../machine/browser.ts";
import { check, equal } from "./page-checks.ts";

/** The steps that are ticked, by number. */
const TICKED =
  '[...document.querySelectorAll("input[data-step]:checked")].map((box) => box.dataset.step).join()';

export async function checkTicks(browser: Browser, url: string) {
  const tick = (step: string) => evaluate(browser, `document.querySelector("#step-${step} input").click()`);
  await tick("0a");
  await tick("1a");
  const address = await evaluate<string>(browser, "location.href");
  await visit(browser, "about:blank");
  await visit(browser, address);
  equal("ticks are there after a reload", await evaluate(browser, TICKED), "0a,1a");
  await visit(browser, "about:blank");
  await visit(browser, url);
  equal("ticks are there when the file is opened again", await evaluate(browser, TICKED), "0a,1a");
  await evaluate(browser, "localStorage.clear()");
  await visit(browser, "about:blank");
  await visit(browser, address);
  equal("ticks are in the address that a colleague gets", await evaluate(browser, TICKED), "0a,1a");
  await tick("0a");
  await tick("1a");
  await visit(browser, "about:blank");
  await visit(browser, url);
  equal("a tick that was taken away stays away", await evaluate(browser, TICKED), "");
}

/** A step that was seen to be done when the page was made. */
export async function checkSeen(browser: Browser, page: string, file: string) {
  writeFileSync(
    file,
    page.replace(/(data-step="0a"[^>]*)>/, "$1 checked>").replace('data-made="', "$&seen "),
  );
  await visit(browser, `file://${file}`);
  equal("a step that was seen to be done is ticked, and counts", await evaluate(browser, PROGRESS), "0a 1");
  await evaluate(browser, 'document.querySelector("#step-0a input").click()');
  await evaluate(browser, 'document.querySelector("#step-0b input").click()');
  await visit(browser, "about:blank");
  await visit(browser, `file://${file}`);
  equal("what a person has ticked since counts more", await evaluate(browser, PROGRESS), "0b 1");
  const clock = await evaluate<string>(browser, 'document.getElementById("clock").textContent');
  check(
    "the time since the first tick stands beside the estimate",
    /^\d+ s since the first tick; estimate: \d/.test(clock),
    clock,
  );
}

const PROGRESS = `${TICKED} + " " + document.getElementById("bar").value`;
