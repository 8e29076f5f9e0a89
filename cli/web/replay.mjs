// Checks the steps of a document on a device of Dawn.
// stdin: {backend, document}; stdout: {adapter, results}, as check.mjs returns them.
import { readFileSync, writeFileSync } from 'node:fs';
import { create, globals } from 'webgpu';
import { check, lacking } from '#check';
import { Gpu } from '#gpu';

Object.assign(globalThis, globals);
const { backend, document } = JSON.parse(readFileSync(0, 'utf8'));
// kept: Dawn dies with it
globalThis.dawn = create([`backend=${backend}`]);
const adapter = await dawn.requestAdapter();
if (!adapter) throw new Error(`Dawn has no adapter with the back end ${backend}`);
const gpu = await Gpu.open(document, adapter);
const facts = { kinds: ['hardware', 'software'], storageBuffers: 8, subgroups: false, mostBytes: Infinity, largestBuffer: 2 ** 28 };

const results = [];
for (const step of document.steps) {
  const { set, name } = step;
  const reason = lacking(step, facts);
  results.push(reason ? { set, name, outcome: 'unsupported', message: reason.words } : await check(gpu, step));
}
writeFileSync(1, JSON.stringify({ adapter: adapter.info.description || adapter.info.device, results }));
// Dawn keeps the process alive
process.exit(0);
