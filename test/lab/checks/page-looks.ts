/**
 * How a page looks: no name is broken, all can be read by day and by night, and pictures are kept for people
 * to look at.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, evaluate, resize } from "../machine/browser.ts";
import { check, equal } from "./page-checks.ts";

const WIDTHS = [1200, 800, 400];
const SCHEMES = ["light", "dark"] as const;

const PICTURES = process.env.PICTURES ?? join(tmpdir(), "kube-pki-repair-pictures");

/** `names`: of nodes and files, which fit into a phone's line. */
export async function checkLooks(browser: Browser, { page, names }: { page: string; names: string[] }) {
  mkdirSync(PICTURES, { recursive: true });
  for (const width of WIDTHS) {
    await resize(browser, width, { phone: width < 600 });
    equal(
      `every name is in one piece at ${width} px`,
      (await evaluate<string[]>(browser, brokenNames(names))).join("; "),
      "",
    );
    const wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    equal(`nothing is wider than ${width} px`, await evaluate(browser, wider), 0);
    for (const scheme of SCHEMES) {
      await browser.send("Emulation.setEmulatedMedia", {
        features: [{ name: "prefers-color-scheme", value: scheme }],
      });
      const pale = await evaluate<string[]>(browser, PALE);
      check(
        `all can be read at ${width} px, ${scheme} (WCAG 2.2, 1.4.3)`,
        pale.length === 0,
        pale.slice(0, 5).join("; "),
      );
      await keepPicture(browser, join(PICTURES, `${page}-${width}-${scheme}.png`));
    }
  }
  await browser.send("Emulation.setEmulatedMedia", { features: [] });
  console.log(`pictures: ${PICTURES}/${page}-*.png`);
}

export async function keepPicture(browser: Browser, file: string) {
  const { data } = await browser.send<{ data: string }>("Page.captureScreenshot", {
    captureBeyondViewport: true,
  });
  writeFileSync(file, Buffer.from(data, "base64"));
}

/** Those that go over two lines; the text around them says where. */
function brokenNames(names: string[]): string {
  return `(() => {
    const broken = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode()); )
      for (const name of text.parentElement.checkVisibility() ? ${JSON.stringify(names)} : [])
        for (let at = text.data.indexOf(name); at >= 0; at = text.data.indexOf(name, at + 1)) {
          const range = document.createRange();
          range.setStart(text, at);
          range.setEnd(text, at + name.length);
          const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
          if (lines.size > 1) broken.push(text.data.slice(Math.max(0, at - 20), at + name.length));
        }
    return broken;
  })()`;
}

/** Texts with less contrast than 4.5 to 1. */
const PALE = `(() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = rgb(color).map((part) => ((part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (one) => {
    const color = getComputedStyle(one).backgroundColor;
    return (rgb(color)[3] ?? 1) === 1 ? color : one.parentElement ? back(one.parentElement) : "rgb(255, 255, 255)";
  };
  const faded = (one) => one && (getComputedStyle(one).opacity !== "1" || faded(one.parentElement));
  const own = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "");
  return [...document.querySelectorAll("body *")].filter((one) => own(one) && one.checkVisibility() && !one.closest("svg") && one.tagName !== "SCRIPT").flatMap((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(back(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    return ratio < 4.5 || faded(one) ? [\`\${ratio.toFixed(1)}\${faded(one) ? " faded" : ""}: \${one.textContent.slice(0, 40)}\`] : [];
  });
})()`;
