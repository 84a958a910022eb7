/**
 * The plan's page without a mouse and without eyes: by the keyboard alone, and by what a screen reader is
 * told (the accessibility tree).
 */
import { type Browser, evaluate } from "../machine/browser.ts";
import { check, equal } from "./page-checks.ts";

/** What each key is to the browser: its text, and its number of old. */
const KEYS = { Tab: ["", 9], " ": [" ", 32], Enter: ["\r", 13] } as const;

async function press(browser: Browser, key: keyof typeof KEYS) {
  const [text, windowsVirtualKeyCode] = KEYS[key];
  await browser.send("Input.dispatchKeyEvent", { type: "keyDown", key, text, windowsVirtualKeyCode });
  await browser.send("Input.dispatchKeyEvent", { type: "keyUp", key, windowsVirtualKeyCode });
}

/** What has the focus: what it is, whether one sees that it has it, and whether something lies upon it. */
const FOCUSED = `(() => {
  const one = document.activeElement;
  if (one === document.body) return "";
  const { left, top, width, height } = one.getBoundingClientRect();
  const upon = document.elementFromPoint(left + width / 2, top + height / 2);
  const seen = getComputedStyle(one).outlineStyle !== "none" && (one === upon || one.contains(upon));
  return [seen ? "seen" : "not seen", one.dataset.step ?? one.getAttribute("aria-label") ?? one.textContent].join(" ");
})()`;

export async function checkKeyboard(browser: Browser) {
  const wanted = await evaluate<number>(
    browser,
    '[...document.querySelectorAll("input, button, summary")].filter((one) => one.checkVisibility()).length',
  );
  await evaluate(browser, "scrollTo(0, 0); document.activeElement.blur()");
  const stops: string[] = [];
  for (let i = 0; i <= wanted; i++) {
    await press(browser, "Tab");
    const stop = await evaluate<string>(browser, FOCUSED);
    if (stop === "") break;
    stops.push(stop);
  }
  equal("Tab comes by every box, button and fold, once", new Set(stops).size, wanted);
  equal(
    "what has the focus is seen, and nothing lies upon it",
    stops.filter((stop) => stop.startsWith("not seen")).join("; "),
    "",
  );
  await evaluate(browser, 'document.querySelector("input").focus()');
  await press(browser, " ");
  check("the space bar ticks", await evaluate<boolean>(browser, 'document.querySelector("input").checked'));
  await press(browser, " ");
  await evaluate(browser, 'document.querySelector(".step button").focus()');
  await press(browser, "Enter");
  const copied = await evaluate<string>(
    browser,
    `(async () => {
      while (document.getElementById("said").textContent === "") await new Promise(requestAnimationFrame);
      return document.getElementById("said").textContent;
    })()`,
  );
  check("Enter copies, and a screen reader hears it", copied.startsWith("Copied: "), copied);
}

interface Spoken {
  ignored: boolean;
  role?: { value: string };
  name?: { value: string };
}

/** The names of each role. */
async function spoken({ send }: Browser): Promise<Map<string, string[]>> {
  const { nodes } = await send<{ nodes: Spoken[] }>("Accessibility.getFullAXTree");
  const heard = nodes.filter(({ ignored }) => !ignored);
  const groups = Map.groupBy(heard, ({ role }) => role?.value ?? "");
  return new Map([...groups].map(([role, all]) => [role, all.map(({ name }) => name?.value ?? "")]));
}

export async function checkRoles(browser: Browser) {
  await browser.send("Accessibility.enable");
  const roles = await spoken(browser);
  const named = (role: string) => roles.get(role) ?? [];
  for (const role of ["checkbox", "button", "region", "article", "progressbar"]) {
    const names = named(role);
    const doubled = names.filter((name, index) => name === "" || names.indexOf(name) !== index);
    check(
      `each ${role} has a name of its own`,
      names.length > 0 && doubled.length === 0,
      doubled.join("; ") || "there is none",
    );
  }
  equal("there is one main part", named("main").length, 1);
  const levels = await evaluate<string>(
    browser,
    '[...document.querySelectorAll("h1, h2, h3")].map(({ tagName }) => tagName).join(" ")',
  );
  check("headings go down one level at a time", /^H1( H2( H3)*)+$/.test(levels), levels);
}
