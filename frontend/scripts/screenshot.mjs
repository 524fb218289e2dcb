// `node scripts/screenshot.mjs URL FILE`: a picture of the dashboard, as soon as it shows jobs of every state.
// `make screenshot` runs it.
import { chromium } from "playwright-core";

const [url, path] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 880 }, colorScheme: "light" });
  await page.goto(url);
  await page.waitForFunction(
    () => {
      const count = (selector) => document.querySelectorAll(selector).length;
      const percents = [...document.querySelectorAll(".running .card > .bar")].map((bar) => Number(bar.ariaValueNow));
      const isMoving = percents.filter((percent) => percent > 15 && percent < 95).length >= 4;
      const hasOwnType = count('.running [data-type="subtitles"][data-state="running"]') >= 1;
      return (
        isMoving &&
        hasOwnType &&
        count('.ended [data-state="complete"]') >= 4 &&
        count('.ended [data-state="failed"]') >= 1
      );
    },
    undefined,
    { timeout: 120_000 },
  );
  const { y, height } = await page.locator("#projects").boundingBox();
  await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width: 1280, height: y + height + 16 } });
} finally {
  await browser.close();
}
