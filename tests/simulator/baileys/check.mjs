// A stock Baileys client against the simulator: links by QR code, opens, sends a text, receives
// one, and sees its own message delivered and read. Prints what it saw; exits 0 or 1.
//
//   node check.mjs [ws url] [control url]      (or WS_URL and CONTROL_URL)

import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { DisconnectReason, makeWASocket, useMultiFileAuthState } from 'baileys'

const url = process.argv[2] ?? process.env.WS_URL ?? 'ws://127.0.0.1:7100/ws/chat'
const control = process.argv[3] ?? process.env.CONTROL_URL ?? 'http://127.0.0.1:7101'
const ALICE = '15550001111'
const BOB = '15550002222'
const DEADLINE_MS = 60_000

const silent = { level: 'silent', trace() {}, debug() {}, info() {}, warn() {}, error() {} }
silent.child = () => silent
// libsignal tells the console about every session it closes, keys included.
if (!process.env.VERBOSE) console.info = console.warn = () => {}
const loud = Object.assign({}, console, { level: 'trace', trace: console.debug })
loud.child = () => loud

const seen = []
const say = line => {
  seen.push(line)
  console.log(line)
}

async function call(method, path, body) {
  const response = await fetch(control + path, {
    method,
    headers: { 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body)
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer.error}`)
  return answer
}

/** A promise and the functions that settle it, for something an event will tell. */
const expected = new Map()
function expect(what) {
  if (!expected.has(what)) {
    const entry = {}
    entry.promise = new Promise(resolve => (entry.resolve = resolve))
    expected.set(what, entry)
  }
  return expected.get(what)
}
function happened(what, value) {
  expect(what).resolve(value)
}
async function wait(what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for: ${what}`)), DEADLINE_MS)
  })
  const value = await Promise.race([expect(what).promise, late])
  clearTimeout(timer)
  say(`ok: ${what}`)
  return value
}

// Below TMPDIR, and left there: run.sh clears up when this process has ended.
const folder = await mkdtemp(join(tmpdir(), 'baileys-check-'))
const { state, saveCreds } = await useMultiFileAuthState(folder)
let socket
let scanning = false
let finished = false

function connect() {
  socket = makeWASocket({
    auth: state,
    waWebSocketUrl: url,
    version: [2, 3000, 1042742319],
    logger: process.env.VERBOSE ? loud : silent,
    syncFullHistory: false,
    markOnlineOnConnect: true
  })
  socket.ev.on('creds.update', saveCreds)
  socket.ev.on('connection.update', async update => {
    if (update.qr && !scanning) {
      scanning = true
      happened('a QR code is shown', update.qr)
    }
    if (update.connection === 'open') happened('the connection is open')
    if (update.connection === 'close' && !finished) {
      const code = update.lastDisconnect?.error?.output?.statusCode
      if (code === DisconnectReason.restartRequired) {
        happened('the stream is restarted (515)')
        connect()
      } else {
        fail(new Error(`connection closed: ${code} ${update.lastDisconnect?.error}`))
      }
    }
  })
  // A status is reported by itself or folded into the message, depending on buffering.
  const status = (id, value) => {
    if (value >= 3) happened(`${id} delivered`)
    if (value >= 4) happened(`${id} read`)
  }
  socket.ev.on('messages.update', updates => {
    for (const { key, update } of updates) status(key.id, update.status)
  })
  socket.ev.on('messages.upsert', ({ messages }) => {
    for (const message of messages) {
      status(message.key.id, message.status)
      const text = message.message?.conversation ?? message.message?.extendedTextMessage?.text
      if (text !== undefined && text !== null && !message.key.fromMe) happened(`text: ${text}`, message)
    }
  })
}

function end(code) {
  finished = true
  socket?.end(undefined)
  console.log(`${seen.length} steps seen`)
  process.exit(code)
}
function fail(error) {
  console.error(`FAILED: ${error.message ?? error}`)
  end(1)
}
process.on('unhandledRejection', fail)

try {
  await call('POST', '/phones', { number: ALICE, name: 'Alice' })
  await call('POST', '/contacts', { number: BOB, name: 'Bob', receipts: 'none' })
  connect()
  const qr = await wait('a QR code is shown')
  const { device } = await call('POST', '/scan', { phone: ALICE, qr })
  say(`ok: scanned, linked as device ${device}`)
  await wait('the stream is restarted (515)')
  await wait('the connection is open')

  const { ids } = await call('POST', '/inject', { from: BOB, to: ALICE, text: 'hello Baileys' })
  const received = await wait('text: hello Baileys')
  if (received.key.id !== ids[0]) throw new Error('the received message has another id')

  const sent = await socket.sendMessage(`${BOB}@s.whatsapp.net`, { text: 'hello from Baileys' })
  const id = sent.key.id
  const until = Date.now() + DEADLINE_MS
  for (;;) {
    const [message] = await call('GET', `/sent?account=${ALICE}&id=${id}`)
    if (message?.decrypted_by.includes(BOB)) {
      if (message.text !== 'hello from Baileys') throw new Error(`decrypted to ${message.text}`)
      break
    }
    if (Date.now() > until) throw new Error('the contact has not decrypted the message')
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  say('ok: the contact has decrypted the text')
  await call('POST', '/receipt', { from: BOB, to: ALICE, ids: [id], kind: 'delivered' })
  await wait(`${id} delivered`)
  await call('POST', '/receipt', { from: BOB, to: ALICE, ids: [id], kind: 'read' })
  await wait(`${id} read`)

  const text = 'a second one, in the same session'
  await call('POST', '/inject', { from: BOB, to: ALICE, text })
  await wait(`text: ${text}`)
  end(0)
} catch (error) {
  fail(error)
}
