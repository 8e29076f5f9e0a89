// The page: looks at the adapter, runs the checks and the measurements, shows what was found, and shares it.
import { bytesOfBase64, textOfGzip } from '#bytes';
import { check, lacking } from '#check';
import { Gpu } from '#gpu';
import { leastBytes, measure } from '#measure';
import { HEADER, bench as benchOf, fragment, ofFragment, row, validation as validationOf } from '#results';
import { find, save, say, showAll, showBench, showVerdict } from '#view';

// The largest buffer at WebGPU's default limits.
const DEFAULT_BUFFER = 2 ** 28;
// Device memory that is taken without asking, and the most that is taken at all.
const AGREED = 64 << 20;
const MOST = 2 ** 31;
// Logits of the largest shape that a software driver times, unless it is asked to.
const SOFTWARE_LOGITS = 1 << 21;
// Of adapters, each with a variant of its own.
const KINDS = ['hardware', 'software'];

const settings = new URLSearchParams(location.search);
const contents = JSON.parse(await textOfGzip(bytesOfBase64(find('document').textContent)));
let facts = null;
let found = { validation: null, bench: null };
let results = [];

function browser() {
  const { userAgent } = navigator;
  const [, name, version] = userAgent.match(/(Firefox|Edg|Chrome|Version)\/(\d+)/) ?? [, 'a browser', ''];
  const known = { Edg: 'Edge', Version: 'Safari', Chrome: /Edg\//.test(userAgent) ? 'Edge' : 'Chrome' };
  return `${known[name] ?? name} ${version}`.trim();
}

// The name that WebGL gives, where WebGPU gives none.
function nameOfWebGl() {
  const gl = document.createElement('canvas').getContext('webgl2');
  const extension = gl?.getExtension('WEBGL_debug_renderer_info');
  return (extension && gl.getParameter(extension.UNMASKED_RENDERER_WEBGL)) || '';
}

function whyNoGpu() {
  if (!isSecureContext) return 'WebGPU needs https, localhost or a file: this address is none of them.';
  return 'This browser has no WebGPU. Chrome, Edge, Firefox and Safari have it, on most systems.';
}

async function request() {
  return navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
}

async function look() {
  const adapter = await request();
  if (!adapter) {
    say('adapter', navigator.gpu ? 'WebGPU is here, and finds no GPU that it may use.' : whyNoGpu());
    return false;
  }
  const { info, limits, features } = adapter;
  const words = [info.vendor, info.architecture, info.device, info.description].filter(Boolean);
  const gl = nameOfWebGl();
  const isSoftware = info.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
  const sizes = features.has('subgroups') ? [info.subgroupMinSize, info.subgroupMaxSize] : [0, 0];
  const kind = isSoftware ? 'software' : 'hardware';
  const kinds = settings.get('kinds')?.split(',') ?? [kind];
  const unknown = kinds.find((one) => !KINDS.includes(one));
  if (unknown !== undefined) {
    say('adapter', `kinds in the address: expected ${KINDS.join(' or ')}, got "${unknown}".`);
    return false;
  }
  facts = {
    kind,
    kinds,
    storageBuffers: limits.maxStorageBuffersPerShaderStage,
    largestBuffer: DEFAULT_BUFFER,
    subgroups: features.has('subgroups'),
    subgroupSize: sizes[0] === sizes[1] ? sizes[0] : 0,
    exactF16: false,
    mostBytes: AGREED,
    driver: gl || '–',
    browser: browser(),
    states: [
      ['back end', `WebGPU, ${browser()}`],
      ['user agent', navigator.userAgent],
      ['kind', kind],
      ['WebGPU says', words.join(', ') || '–'],
      ['WebGL says', gl || '–'],
      ['subgroup size', features.has('subgroups') ? sizes.join(' to ') : 'no feature'],
      ['timestamps', String(features.has('timestamp-query'))],
      ['storage buffers per stage', String(limits.maxStorageBuffersPerShaderStage)],
      ['largest storage binding', `${limits.maxStorageBufferBindingSize} B`],
      ['largest buffer', `${limits.maxBufferSize} B`],
      ['invocations per workgroup', String(limits.maxComputeInvocationsPerWorkgroup)],
      ['workgroup memory', `${limits.maxComputeWorkgroupStorageSize} B`],
      ['clock', crossOriginIsolated ? 'fine' : 'coarse: the page is not cross-origin isolated'],
    ],
  };
  find('name').value = settings.get('name') ?? (info.description || words.join(' ') || gl);
  const device = isSoftware ? 'a software driver' : 'a GPU';
  say('adapter', `${find('name').value || 'No name given'}: ${device}, in ${facts.browser}. segloss ${contents.version} (${contents.commit}).`);
  find('start').disabled = false;
  return true;
}

const name = () => find('name').value.trim() || 'unnamed GPU';

const about = () => ({ ...facts, name: name() });

const visible = () => {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener('visibilitychange', () => resolve(), { once: true }));
};

// Lets the page draw; waits while the tab is hidden, and says so. False where it was hidden.
let wasHidden = document.hidden;
document.addEventListener('visibilitychange', () => {
  wasHidden ||= document.hidden;
});

async function breathe() {
  await new Promise((resolve) => setTimeout(resolve));
  if (!document.hidden && !wasHidden) return true;
  if (document.hidden) say('progress', 'Paused while the tab is hidden.');
  await visible();
  wasHidden = false;
  return false;
}

// Shows how far it is, and how long it takes by what it took so far.
function progress() {
  const begun = performance.now();
  return (part, what) => {
    find('bar').value = part;
    const left = part > 0.02 ? ((performance.now() - begun) / 1000) * (1 / part - 1) : null;
    const time = left === null ? '' : left > 90 ? `, ${Math.round(left / 60)} minutes left` : `, ${Math.ceil(left)} s left`;
    say('progress', `${what}${time}`);
  };
}

function wanted() {
  const sets = settings.get('sets')?.split(',');
  const only = settings.get('only');
  return contents.steps.filter((step) => {
    if (step.set === 'bench' || lacking(step, facts)?.isOther) return false;
    return (!sets || sets.includes(step.set)) && (!only || step.name.includes(only));
  });
}

// A device at WebGPU's default limits; one with more for what needs it.
async function open(limits = {}) {
  return Gpu.open(contents, await request(), limits);
}

async function runChecks(told) {
  const gpu = await open();
  facts.exactF16 = await gpu.exactF16();
  let more = null;
  const steps = wanted();
  let ended = null;
  for (const [index, step] of steps.entries()) {
    told(index / steps.length, `Check ${index + 1} of ${steps.length}: ${step.name}`);
    await breathe();
    const reason = lacking(step, facts);
    if (reason) {
      results.push({ ...step, outcome: 'unsupported', message: reason.words });
      continue;
    }
    try {
      // compilers work on other threads
      const next = steps[index + 1];
      if (next && !next.needs.storage_buffers && !lacking(next, facts)) gpu.prepare(next);
      if (step.needs.storage_buffers) more ??= await open({ maxStorageBuffersPerShaderStage: facts.storageBuffers });
      const on = step.needs.storage_buffers ? more : gpu;
      results.push({ ...(await check(on, step)), step });
      const uncaptured = on.uncaptured.splice(0);
      if (uncaptured.length > 0) Object.assign(results.at(-1), { outcome: 'failed', message: uncaptured.join('\n') });
    } catch (error) {
      ended = `${step.name}: ${error.message}`;
      break;
    }
    found.validation = validationOf(contents, about(), results, null);
    showVerdict(found.validation, null);
  }
  found.validation = validationOf(contents, about(), results, ended);
  gpu.device.destroy();
  more?.device.destroy();
}

async function runBenches(told) {
  const gpu = await open();
  const measured = [];
  const most = facts.kind === 'software' && !settings.has('shapes') ? SOFTWARE_LOGITS : Infinity;
  const benches = contents.benches.filter(({ variant, logits }) => facts.kinds.includes(variant) && logits <= most);
  let message = '';
  for (const [index, bench] of benches.entries()) {
    const what = `Timing ${bench.shape}`;
    told(index / benches.length, what);
    const contenders = bench.contenders.filter(({ step }) => !lacking(contents.steps[step], facts));
    if (contenders.length === 0 || leastBytes(contents, bench) > facts.mostBytes) {
      message ||= `${bench.shape} and larger are left out: they take more memory than agreed to.`;
      continue;
    }
    try {
      const one = await measure(gpu, { ...bench, contenders }, facts.mostBytes, async (part = 0) => {
        told((index + part * 0.9) / benches.length, what);
        return breathe();
      });
      if (settings.has('kinds')) {
        const shape = `${bench.shape}, ${bench.variant} variant`;
        for (const list of [one.figures, one.ratios, one.walls]) for (const figure of list) figure.shape = shape;
      }
      measured.push(one);
    } catch (error) {
      message = error.message;
      found.benchFailed = (found.benchFailed ?? 0) + (error.kind === 'out-of-memory' ? 0 : 1);
      if (error.kind === 'lost') break;
    }
    found.bench = benchOf(contents, about(), measured);
    found.measured = measured;
    showBench(found.bench);
  }
  const clock = measured[0] ? `Medians of slopes between k and 2k repeats, by ${measured[0].clock}. ` : '';
  const software = facts.kind === 'software' ? 'A software driver: its floor is the driver’s, not the memory’s. ' : '';
  const sets = measured[0] ? `${measured.at(-1).sets} sets of tensors, ${Math.round(measured.at(-1).bytes / 1e6)} MB in all, take turns. ` : '';
  say('clock', `${clock}${sets}${software}${message}`);
  if (message && found.benchFailed) found.message = message;
  gpu.device.destroy();
}

// Whose bits the results have, of the native adapters that the page's maker ran.
function bits() {
  const of = ({ step, bits }) => {
    const same = contents.native.filter((_, index) => step.bits?.[index] === bits);
    return [step.name, bits.toString(16).padStart(8, '0'), same.join(', ') || '–'];
  };
  return results.filter(({ step, bits }) => step?.bits && bits !== undefined).map(of);
}

function show() {
  showVerdict(found.validation, found.bench);
  showBench(found.bench);
  const unsupported = results.filter(({ outcome }) => outcome === 'unsupported').map(({ name, message }) => [name, message]);
  const walls = (found.measured ?? []).flatMap(({ walls }) => walls);
  showAll({ ...found, unsupported, bits: bits(), walls });
  find('save-validation').disabled = find('copy-row').disabled = !found.validation;
  find('save-bench').disabled = !found.bench;
  const canLink = location.protocol.startsWith('http');
  find('copy-link').disabled = !canLink;
  if (!canLink) say('told', 'A link to these results needs a page on a web server: this one is a file, which only you can open.');
}

async function run(mode) {
  find('start').disabled = true;
  results = [];
  found = { validation: null, bench: null };
  facts.mostBytes = find('large').checked || settings.has('large') ? MOST : AGREED;
  document.title = 'segloss: running';
  const lock = await navigator.wakeLock?.request('screen').catch(() => null);
  let ended = '';
  try {
    if (mode !== 'bench') await runChecks(progress());
    if (mode !== 'check') await runBenches(progress());
  } catch (error) {
    ended = error.message;
  }
  await lock?.release();
  find('bar').value = 1;
  show();
  const count = (outcome) => results.filter((result) => result.outcome === outcome).length;
  const failed = count('failed') + (found.benchFailed ?? 0) + (ended ? 1 : 0) + (endedEarly() ? 1 : 0);
  const outcome = {
    passed: count('passed'),
    failed,
    unsupported: count('unsupported'),
    bench: found.bench?.figures ?? [],
    ended: ended || found.message || '',
    // the two files of "Save"
    files: { validation: found.validation, bench: found.bench },
  };
  say('progress', ended ? `Ended early: ${ended}. What was found stays.` : 'Done.');
  find('outcome').textContent = JSON.stringify(outcome);
  document.title = `done: ${outcome.passed} passed, ${outcome.failed} failed`;
  find('start').disabled = false;
}

const endedEarly = () => found.validation?.adapters[0].failures.some(({ what }) => what === 'what ended the validation');

// What was found, under the name that is typed by now.
function renamed() {
  const { validation, bench } = found;
  if (facts && validation) validation.adapters[0].name = `${name()} (WebGPU, ${facts.browser})`;
  if (facts && bench) bench.machine.adapter = name();
  return found;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say('told', `${what} is in the clipboard.`);
  } catch {
    say('told', text);
  }
}

function listen() {
  find('start').addEventListener('click', () => (facts ? run('all') : location.assign(location.pathname)));
  find('save-validation').addEventListener('click', () => save('validation.json', renamed().validation));
  find('save-bench').addEventListener('click', () => save('bench.json', renamed().bench));
  find('copy-row').addEventListener('click', () => {
    const { validation, bench } = renamed();
    copy(`${HEADER}\n${row(validation, bench)}`, 'The row');
  });
  find('copy-link').addEventListener('click', async () => {
    const { validation, bench } = renamed();
    const end = await fragment({ validation, bench });
    copy(`${location.origin}${location.pathname}${end}`, 'The link');
  });
  addEventListener('hashchange', () => location.reload());
}

listen();
showBench(null);
const shared = await ofFragment(location.hash).catch((error) => {
  say('told', `The link holds no results: ${error.message}`);
  return null;
});
if (shared) {
  found = shared;
  say('adapter', 'These results came with the link: nothing ran here.');
  show();
  find('start').textContent = 'Check and measure this GPU';
  find('start').disabled = false;
} else if ((await look()) && settings.has('run')) {
  await run(settings.get('run'));
} else if (!facts && settings.has('run')) {
  find('outcome').textContent = JSON.stringify({ passed: 0, failed: 1, unsupported: 0, bench: [] });
  document.title = 'done: nothing ran';
}
