// What the readers share: a browser, and a server for what does not run from a file.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { delimiter, extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The directory of everything that is installed for these scripts. */
export const readers = process.env.PYSCRY_READERS;
if (!readers) throw new Error('PYSCRY_READERS is not set: run the tests with `cargo xtask test`');

/** The browser that the system has. */
function chromium() {
  const directories = (process.env.PATH ?? '').split(delimiter);
  const found = directories.map((directory) => join(directory, 'chromium')).find(existsSync);
  if (!found) throw new Error('there is no chromium: run scripts/install-build-tools.sh');
  return found;
}

/** A page of a browser; what it says goes wrong ends this program. */
export async function browse(use) {
  const require = createRequire(join(readers, 'package.json'));
  const { default: puppeteer } = await import(pathToFileURL(require.resolve('puppeteer-core')));
  const browser = await puppeteer.launch({
    executablePath: chromium(),
    // Chromium has no sandbox for root, which the tests run as.
    args: ['--no-sandbox', '--allow-file-access-from-files'],
  });
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: 1400, height: 900 });
    // A rejection with a text comes here without it.
    await page.evaluateOnNewDocument(() => {
      addEventListener('unhandledrejection', (event) => {
        console.error(`rejected: ${event.reason}`);
      });
    });
    const failed = new Promise((_, reject) => {
      page.on('pageerror', (error) => reject(new Error(`the page failed: ${error?.stack}`)));
      page.on('console', (message) => {
        if (message.text().startsWith('rejected: ')) reject(new Error(message.text()));
      });
    });
    await Promise.race([use(page), failed]);
  } finally {
    await browser.close();
  }
}

const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** Serves a directory on this host while `use` runs; `others` are answers by path. */
export async function serve(root, others, use) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    try {
      const path = pathname === '/' ? '/index.html' : pathname;
      const content = others[pathname] ?? (await readFile(join(root, path)));
      response.writeHead(200, {
        'content-length': content.length,
        'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
      });
      response.end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  try {
    await use(`http://127.0.0.1:${server.address().port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** What a test reads. */
export function say(what) {
  console.log(JSON.stringify(what));
}
