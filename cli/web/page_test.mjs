// Opens a page in Chromium and in Firefox, and fails on any failure; then with seeded faults, each of which must turn it red.
// node page_test.mjs PAGE [--all] [--save FOLDER --segloss PROGRAM]: `--all` also runs what takes software drivers long; `--save`
// writes the results, whose row is compared with the program's.
import { readFileSync, writeFileSync, mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import puppeteer from 'puppeteer-core';
import { row } from '#results';

const { values: options, positionals } = parseArgs({
  options: { all: { type: 'boolean' }, save: { type: 'string' }, segloss: { type: 'string' } },
  allowPositionals: true,
});
const page = resolve(positionals[0] ?? 'segloss.html');
const html = readFileSync(page, 'utf8');
// A page that takes longer hangs.
const MOST_MS = (options.all ? 30 : 15) * 60e3;

const BROWSERS = {
  chromium: {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--enable-unsafe-webgpu',
      '--use-webgpu-adapter=swiftshader',
      '--enable-features=Vulkan',
    ],
  },
  firefox: {
    browser: 'firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    extraPrefsFirefox: {
      'dom.webgpu.enabled': true,
      'gfx.webgpu.ignore-blocklist': true,
      'gfx.webgpu.force-enabled': true,
    },
  },
};

let failures = 0;

function claim(holds, words) {
  console.log(`${holds ? 'ok' : 'FAILED'}: ${words}`);
  if (!holds) failures += 1;
}

async function launch(name) {
  const browser = await puppeteer.launch({ protocolTimeout: MOST_MS, ...BROWSERS[name] });
  return { name, browser };
}

// Opens an address, waits until the page is done, and returns what it says. `prepare`: before it opens; `look`: when it is done.
async function open({ name, browser }, url, look = async () => {}, prepare = async () => {}) {
  const tab = await browser.newPage();
  await prepare(tab);
  tab.on('pageerror', ({ message }) => claim(false, `${name}: ${message}`));
  const begun = Date.now();
  await tab.goto(url);
  let title = '';
  while (!title.startsWith('done')) {
    if (Date.now() - begun > MOST_MS) throw new Error(`${name}: still at "${title}" after ${MOST_MS / 60e3} minutes`);
    await new Promise((done) => setTimeout(done, 200));
    title = await tab.title();
  }
  const outcome = JSON.parse(await tab.$eval('#outcome', (element) => element.textContent));
  const seconds = Math.round((Date.now() - begun) / 1000);
  const seen = await look(tab);
  await tab.close();
  return { ...outcome, seconds, seen };
}

// Pages with faults.
const folder = mkdtempSync(join(tmpdir(), 'segloss-'));

// The page with another document.
function changed(change) {
  const pattern = /(<script type="text\/plain" id="document">)([^<]*)/;
  const contents = JSON.parse(gunzipSync(Buffer.from(html.match(pattern)[2], 'base64')));
  change(contents);
  const packed = gzipSync(JSON.stringify(contents)).toString('base64');
  const file = join(folder, 'segloss.html');
  writeFileSync(file, html.replace(pattern, (_, tag) => tag + packed));
  return pathToFileURL(file).href;
}

const STEP = '4 classes, software';
const stepOf = (contents) => contents.steps.find(({ name }) => name === STEP);
const lossOf = (contents) => contents.losses[stepOf(contents).loss];

function linesOf(contents, stage) {
  const { shader } = stepOf(contents).dispatches.find((dispatch) => dispatch.stage === stage);
  let at = 0;
  return contents.shaders[shader].lines.map((step) => (at += step));
}

// Replaces a text in the lines of a stage's shader.
function mutate(contents, stage, from, to) {
  const line = linesOf(contents, stage).find((index) => contents.lines[index].includes(from));
  if (line === undefined) throw new Error(`no line of the ${stage} has "${from}"`);
  contents.lines[line] = contents.lines[line].replace(from, to);
}

const FAULTS = {
  'an expected loss that is off by a thousandth': (contents) => {
    lossOf(contents).report[0].value *= 1.001;
  },
  'an expected count that is off by one': (contents) => {
    lossOf(contents).report.find(({ kind }) => kind === 'count').value += 1;
  },
  'an expected gradient that has another sample': (contents) => {
    const output = lossOf(contents).outputs[0];
    const samples = Buffer.from(output.samples, 'base64');
    samples.writeFloatLE(samples.readFloatLE(400) + 1e-5 * output.scale, 400);
    output.samples = samples.toString('base64');
  },
  'an expected Σ|·| that is off by a thousandth': (contents) => {
    lossOf(contents).outputs[0].sum_abs *= 1.001;
  },
  'a byte that the step writes, taken for one that nothing may write to': (contents) => {
    const { buffer, offset } = stepOf(contents).outputs[0];
    stepOf(contents).guards.push([buffer, offset, 64]);
  },
  'a shader whose softmax is off by a thousandth in one class': (contents) => {
    mutate(contents, 'backward', 's_c1 = exp(z_c1 - peak);', 's_c1 = 1.001 * exp(z_c1 - peak);');
  },
  'a shader whose statistics leave out an intersection': (contents) => {
    mutate(contents, 'forward', 'i_c2 += total(', 'i_c2 += 0.0 * total(');
  },
  'a text that does not compile': (contents) => mutate(contents, 'backward', 'fn ', 'fnn '),
};

// The calls of a check that a device answers later.
const ANSWERS = [
  ['GPUBuffer', 'mapAsync'],
  ['GPUDevice', 'createComputePipelineAsync'],
  ['GPUDevice', 'popErrorScope'],
];

const only = `sets=headline&only=${encodeURIComponent(STEP)}`;

// Seeds a fault, and looks whether the page sees it.
async function seeded(browser, fault, change) {
  const { passed, failed, files } = await open(browser, `${changed(change)}?run=check&${only}`);
  const all = [...files.validation.adapters[0].failures, ...files.validation.shaders.tools[0].failures];
  const first = all[0]?.message.split('\n')[0] ?? '';
  claim(failed === 1 && passed === 0, `${fault} is a failure: ${first.slice(0, 120)}`);
}

// Destroys the device while it owes an answer to the ninth call of a method.
async function lost(browser, type, method) {
  const destroyed = (tab) => {
    const hook = (type, method) => {
      const devices = [];
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...all) {
        devices.push(await request.apply(this, all));
        return devices.at(-1);
      };
      const call = globalThis[type].prototype[method];
      let calls = 0;
      globalThis[type].prototype[method] = function (...all) {
        const answer = call.apply(this, all);
        if ((calls += 1) === 9) for (const device of devices) device.destroy();
        return answer;
      };
    };
    return tab.evaluateOnNewDocument(hook, type, method);
  };
  const { passed, failed, files } = await open(browser, `${address}?run=check&sets=headline,cases`, undefined, destroyed);
  const [failure] = files.validation.adapters[0].failures;
  const told = failed === 1 && failure?.what === 'what ended the validation' && failure.message.includes('the device was lost');
  claim(told, `a device lost in ${method} ends the run after ${passed} steps, which stay: ${failure?.message.slice(0, 100)}`);
}

// The link to results of one step, and the verdict that it should show.
async function linked(browser) {
  const { seen } = await open(browser, `${address}?run=check&${only}`, async (tab) => {
    await tab.$eval('#copy-link', (button) => button.click());
    await new Promise((done) => setTimeout(done, 500));
    const told = await tab.$eval('#told', (element) => element.textContent);
    // where the clipboard is refused, the page shows the link itself
    const link = told.startsWith('http') ? told : await tab.evaluate(() => navigator.clipboard.readText());
    return { link, verdict: await tab.$eval('#verdict', (element) => element.textContent) };
  });
  return seen;
}

// Opens a link to another browser's results, and one whose results are markup.
async function shared({ name, browser }, { link, verdict }) {
  const tab = await browser.newPage();
  await tab.goto(link);
  await new Promise((done) => setTimeout(done, 1500));
  const seen = await tab.$eval('#verdict', (element) => element.textContent);
  claim(seen === 'Right: 1 of 1 agree with f64' && seen === verdict, `a link shows in ${name} what another browser found: ${seen}`);
  const hostile = await tab.evaluate(async () => {
    const { fragment } = await import('#results');
    const adapter = {
      name: '<img src=x onerror=alert(1)>',
      states: [['<b>', '<i>']],
      cases: {},
      covering: {},
      errors: [],
      histogram: [],
      sizes: [],
      determinism: {},
      failures: [{ what: '<script>1</script>', message: '<img src=x>' }],
    };
    const validation = { schema: 'segloss-validation/1', adapters: [adapter], shaders: { tools: [] } };
    return fragment({ validation, bench: null });
  });
  await tab.goto('about:blank');
  await tab.goto(address + hostile);
  await new Promise((done) => setTimeout(done, 1000));
  const [shown, tags] = await tab.evaluate(() => {
    const main = document.querySelector('main');
    return [main.textContent.includes('<script>1</script>'), main.querySelectorAll('img, b, i, script').length];
  });
  claim(shown && tags === 0, 'markup in a link is shown as text');
  await tab.close();
}

// what their software drivers are
const named = ({ name }) => `&name=${{ chromium: 'SwiftShader', firefox: 'llvmpipe' }[name]}`;
const sets = options.all ? '' : '&sets=headline,cases,pooled,windows';
const server = createServer((request, response) => {
  response.setHeader('content-type', 'text/html; charset=utf-8');
  response.end(html);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const address = `http://127.0.0.1:${server.address().port}/segloss.html`;
const file = pathToFileURL(page).href;
const begun = Date.now();
const [chromium, firefox] = await Promise.all(['chromium', 'firefox'].map(launch));
try {
  // Steps for one kind of adapter: Chromium runs those for software, its own, and Firefox those for hardware.
  const everyKind = '&kinds=hardware,software&large';
  const check = (browser, from, kinds) => open(browser, `${from}?run=check${named(browser)}${sets}${kinds}`);
  // side by side, since most of the time goes to Chromium's compiler, of one thread
  const [ofChromium, [ofFirefox, link]] = await Promise.all([
    check(chromium, file, options.all ? everyKind : ''),
    (async () => {
      const found = [await check(firefox, address, options.all ? everyKind : '&kinds=hardware'), await linked(firefox)];
      for (const call of ANSWERS) await lost(firefox, ...call);
      for (const fault of Object.entries(FAULTS)) await seeded(firefox, ...fault);
      return found;
    })(),
  ]);
  const results = {};
  for (const [browser, found] of [[chromium, ofChromium], [firefox, ofFirefox]]) {
    const { passed, failed, unsupported, seconds, files, ended } = found;
    const words = `${passed} passed, ${failed} failed, ${unsupported} unsupported in ${seconds} s ${ended}`;
    claim(passed > 0 && failed === 0, `${browser.name}: ${words}`);
    for (const { what, message } of files.validation.adapters[0].failures) console.log(`  ${what}: ${message}`);
    for (const { what, message } of files.validation.shaders.tools[0].failures) console.log(`  ${what}: ${message}`);
    results[browser.name] = { validation: files.validation };
  }
  await shared(chromium, link);
  const { passed, failed } = await open(chromium, `${file}?run=check&kinds=all`);
  claim(passed === 0 && failed === 1, 'an address with an unknown kind of adapter is refused');
  // alone, since they are timed
  for (const browser of [chromium, firefox]) {
    const shapes = options.all ? '&shapes=all' : '';
    const { bench, failed, seconds, files, ended } = await open(browser, `${address}?run=bench${named(browser)}${shapes}`);
    const floors = bench.filter(({ name }) => name === 'floor').length;
    const words = `${bench.length} figures, ${failed} failed in ${seconds} s ${ended}`;
    claim(failed === 0 && floors >= 2 && bench.every(({ median_ns }) => median_ns > 0), `${browser.name}: ${words}`);
    results[browser.name].bench = files.bench;
  }
  if (options.save) {
    mkdirSync(options.save, { recursive: true });
    for (const [name, files] of Object.entries(results)) {
      for (const [what, contents] of Object.entries(files)) {
        writeFileSync(join(options.save, `${name}-${what}.json`), `${JSON.stringify(contents, null, 2)}\n`);
      }
      const written = ['validation', 'bench'].map((what) => join(options.save, `${name}-${what}.json`));
      const native = execFileSync(options.segloss, ['hardware', '--row', ...written], { encoding: 'utf8' }).trim();
      claim(native === row(files.validation, files.bench), `the page and the program write one row: ${native}`);
    }
  }
} finally {
  await Promise.all([chromium, firefox].map(({ browser }) => browser.close()));
  server.close();
  rmSync(folder, { recursive: true });
}
console.log(`${failures} failures in ${Math.round((Date.now() - begun) / 1000)} s`);
process.exit(failures === 0 ? 0 : 1);
