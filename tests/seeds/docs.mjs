// Opens the page of the API in jsdom beside a live daemon, and wants of it that it shows every operation of the document.
import { JSDOM, VirtualConsole } from 'jsdom';

const { WAGATE_URL: wagate = 'http://127.0.0.1:8080' } = process.env;
const described = await (await fetch(`${wagate}/openapi.json`)).json();
const methods = (paths) => Object.values(paths).flatMap((path) => Object.keys(path)).length;
const wanted = methods(described.paths) + methods(described.webhooks);

const faults = [];
const virtualConsole = new VirtualConsole();
virtualConsole.on('error', (...said) => faults.push(said.join(' ')));
virtualConsole.on('jsdomError', ({ type, message }) => {
  // What jsdom has not is no fault of the page's.
  if (type !== 'not implemented') faults.push(message);
});
const elsewhere = [];
const page = await JSDOM.fromURL(`${wagate}/docs`, {
  runScripts: 'dangerously', resources: 'usable', pretendToBeVisual: true, virtualConsole,
  beforeParse: (window) => {
    Object.assign(window, { Request, Response, Headers });
    window.fetch = (asked, options) => {
      const url = new URL(asked.url ?? asked, wagate);
      if (url.origin !== wagate) elsewhere.push(url.href);
      return fetch(url, options);
    };
  },
});
const shown = () => page.window.document.querySelectorAll('.opblock').length;
for (let tries = 0; shown() < wanted && tries < 200; tries += 1) {
  await new Promise((resolve) => setTimeout(resolve, 100));
}
if (shown() !== wanted) faults.push(`${shown()} of ${wanted} operations are shown`);
faults.push(...elsewhere.map((url) => `it asks ${url}`));
page.window.close();
if (faults.length > 0) {
  console.error(`the page of the API: ${faults.join('\n')}`);
  process.exit(1);
}
console.log(`the page of the API shows ${wanted} operations`);
process.exit(0);
