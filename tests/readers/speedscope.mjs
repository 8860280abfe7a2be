// Opens a file in speedscope, and reads its page: FILE
// Says the profiles with their totals, and of each the rows of its table of functions.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { browse, readers, say } from './lib.mjs';

const [file] = process.argv.slice(2);
const app = join(readers, 'node_modules/speedscope/dist/release/index.html');

/** The cells of each row of the page's tables. */
const rows = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('tr')]
      .map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent.trim()))
      .filter((cells) => cells.length > 0),
  );
/** Presses a key, and waits until the page shows what it asked for. */
const press = async (page, key, shows) => {
  await page.keyboard.press(key);
  await page.waitForFunction((text) => document.body.innerText.includes(text), {}, shows);
};

await browse(async (page) => {
  const dialogs = [];
  page.on('dialog', async (dialog) => {
    dialogs.push(dialog.message());
    await dialog.dismiss();
  });
  await page.goto(pathToFileURL(app).href);
  const input = await page.waitForSelector('input[type=file]');
  await input.uploadFile(file);
  await page.waitForFunction(() => document.body.innerText.includes('(1/'));
  await press(page, '3', 'Symbol Name');
  const count = Number(
    await page.evaluate(() => document.body.innerText.match(/\(1\/(\d+)\)/)[1]),
  );
  // The menu of profiles is a table, too: its rows have numbers.
  const isProfile = ([first]) => /^\d+$/.test(first);
  const tables = [];
  let profiles;
  for (let at = 1; at <= count; at++) {
    if (at > 1) await press(page, 'n', `(${at}/${count})`);
    const all = await rows(page);
    profiles = all.filter(isProfile);
    tables.push(all.filter((cells) => !isProfile(cells)));
  }
  say({ dialogs, profiles, tables });
});
