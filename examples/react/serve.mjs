// Serves the page, and passes what it asks for under /api on to wagate, with a token that the page never sees.
//
//   npm ci && WAGATE_TOKEN=$(cat operator.token) npm start
//
// A viewer's token is enough: the page changes nothing.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';

const here = (name) => new URL(name, import.meta.url);

export async function serve({ wagate, token, port = 0 }) {
  const built = await build({
    entryPoints: [here('page.jsx').pathname],
    bundle: true, write: false, minify: true, jsx: 'automatic', target: 'es2022',
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  const files = {
    '/': ['text/html; charset=utf-8', await readFile(here('index.html'))],
    '/page.js': ['text/javascript; charset=utf-8', built.outputFiles[0].contents],
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://page');
    const file = files[pathname];
    if (file) {
      response.writeHead(200, { 'content-type': file[0] }).end(file[1]);
    } else if (request.method === 'GET' && pathname.startsWith('/api/whatsapp/session/')) {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await fetch(wagate + request.url, { headers }).catch(() => null);
      const type = answer?.headers.get('content-type') ?? 'text/plain';
      response.writeHead(answer?.status ?? 502, { 'content-type': type }).end(await answer?.text());
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return server;
}

if (process.argv[1] === here('serve.mjs').pathname) {
  const { WAGATE_URL: wagate = 'http://127.0.0.1:8080', WAGATE_TOKEN: token, PORT: port = 3000 } = process.env;
  const server = await serve({ wagate, token, port });
  console.log(`http://127.0.0.1:${server.address().port}/`);
}
