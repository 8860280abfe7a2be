// Opens a picture, searches in it, and zooms: FILE SEARCH FRAME [SCREENSHOT]
// Says the tooltips with their colours, what was matched, and what zooming did.

import { pathToFileURL } from 'node:url';

import { browse, say } from './lib.mjs';

const [file, search, frame, screenshot] = process.argv.slice(2);

await browse(async (page) => {
  const dialogs = [];
  page.on('dialog', async (dialog) => {
    dialogs.push(dialog.type());
    await dialog.accept(search);
  });
  await page.goto(pathToFileURL(file).href);
  const frames = await page.evaluate(() =>
    [...document.querySelectorAll('#frames > g')].map((g) => ({
      title: g.querySelector('title').textContent,
      fill: g.querySelector('rect').getAttribute('fill'),
      text: g.querySelector('text').textContent,
    })),
  );
  const text = (id) => page.evaluate((id) => document.getElementById(id)?.textContent, id);
  if (screenshot) await page.screenshot({ path: screenshot });

  await page.click('#search');
  await page.waitForFunction(() => document.getElementById('matched').textContent !== '');
  const matched = await text('matched');

  const at = frames.findIndex(({ title }) => title.startsWith(frame));
  const target = (await page.$$('#frames > g'))[at];
  const width = () => target.$eval('rect', (rect) => rect.getBoundingClientRect().width);
  await target.hover();
  const details = await text('details');
  const before = await width();
  await target.click();
  const zoomed = await width();
  await page.click('#unzoom');
  const after = await width();
  say({ dialogs, frames, matched, details, before, zoomed, after });
});
