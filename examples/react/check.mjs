// Opens the page in jsdom beside a live daemon and looks at what it shows: of a session with a code, of one that is
// connected, of one that has failed. WAGATE_TOKEN is a manager's token; the sessions are made and deleted.
import { JSDOM } from 'jsdom';
import { serve } from './serve.mjs';

const { WAGATE_URL: wagate = 'http://127.0.0.1:8080', WAGATE_TOKEN: token } = process.env;
const userId = 'react-check';

async function ask(method, path, body) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const answer = await fetch(wagate + path, { method, headers, body: body && JSON.stringify(body) });
  if (!answer.ok && method !== 'DELETE') throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
}

const states = {
  'react-qr': [['qr', { qr: '1@ABC123...' }], 'qr_generated'],
  'react-ready': [['ready', {}], 'session_connected'],
  'react-failed': [['auth_failure', { msg: 'Invalid QR scan' }], 'auth_failure'],
};
for (const [id, [[event, data]]] of Object.entries(states)) {
  await ask('DELETE', `/api/whatsapp/session/${id}`);
  await ask('POST', '/api/whatsapp/session', { sessionId: id, userId, origin: 'external' });
  await ask('POST', `/api/whatsapp/webhook/${id}`, { event, data });
}

const server = await serve({ wagate, token });
const base = `http://127.0.0.1:${server.address().port}/`;
const page = await JSDOM.fromURL(`${base}?userId=${userId}`, {
  runScripts: 'dangerously', resources: 'usable', pretendToBeVisual: true,
  beforeParse: (window) => {
    window.fetch = (path) => fetch(new URL(path, base));
  },
});
const { document } = page.window;
const shown = () => document.querySelectorAll('.whatsapp-session').length;
for (let tries = 0; shown() < 3 && tries < 100; tries += 1) {
  await new Promise((resolve) => setTimeout(resolve, 100));
}

const faults = [];
const expect = (what, found) => found || faults.push(what);
const summary = [...document.querySelectorAll('.summary div')].map((it) => it.textContent);
expect('the summary', summary.join() === 'Total: 3,Connected: 1,Need QR: 1,Errors: 1');
for (const session of document.querySelectorAll('.whatsapp-session')) {
  const id = session.querySelector('h3').textContent.replace('Session: ', '');
  const status = session.querySelector('.status span');
  expect(`${id}: its status`, status.textContent === states[id]?.[1]);
  expect(`${id}: whether it is connected`, (status.className === 'connected') === (id === 'react-ready'));
  const image = session.querySelector('.qr-code img')?.src ?? '';
  expect(`${id}: its code`, image.startsWith('data:image/png;base64,') === (id === 'react-qr'));
  expect(`${id}: its error`, (session.querySelector('.error')?.textContent === 'Error: Invalid QR scan') === (id === 'react-failed'));
}
expect('three sessions', shown() === 3);
page.window.close();
server.close();
for (const id of Object.keys(states)) await ask('DELETE', `/api/whatsapp/session/${id}`);
for (const fault of faults) console.error(`not as it should be: ${fault}`);
console.log(faults.length ? 'failed' : 'the page shows three sessions as they are');
process.exit(faults.length ? 1 : 0);
