// Runs steps, and checks what they wrote: against f64, against the bytes that nothing may touch, and run against run.
import { hashOfWords } from '#bytes';
import { compare } from '#compare';
import { GUARD } from '#gpu';

// Runs of one step that must be equal bit for bit, and the bytes up to which there are as many.
export const RUNS = 10;
const MOST_BYTES = 8 << 20;

// Why a step cannot run, in words; null: it can. `facts`: of the adapter. `isOther`: it is for another kind of adapter.
export function lacking({ needs, own_kind_only, variant, buffers }, facts) {
  if (own_kind_only && !facts.kinds.includes(variant)) return { isOther: true };
  if (needs.storage_buffers > facts.storageBuffers) {
    return { words: `needs ${needs.storage_buffers} storage buffers, and the adapter has ${facts.storageBuffers}` };
  }
  if (needs.subgroups && !facts.subgroups) return { words: 'needs the feature "subgroups"' };
  if (needs.subgroup_size && facts.subgroupSize !== needs.subgroup_size) {
    return { words: `needs subgroups of ${needs.subgroup_size} lanes, all of one size` };
  }
  if (needs.built_in_f16 && !facts.exactF16) return { words: 'needs an exact pack2x16float and unpack2x16float' };
  const largest = Math.max(...buffers.map(({ size }) => size));
  if (largest > facts.largestBuffer) return { words: `needs a buffer of ${largest} bytes, beyond WebGPU's default` };
  if (needs.bytes > facts.mostBytes) {
    return { words: `left out: it takes ${Math.round(needs.bytes / 1e6)} MB, more than agreed to` };
  }
  return null;
}

// The buffers that a step writes, and that are looked at: the report, and those with tensors.
function written(step) {
  const all = new Set([step.report.buffer]);
  for (const { bindings } of step.dispatches) {
    for (const [access, buffer] of bindings) if (access === 'w' && step.buffers[buffer].is_tensor) all.add(buffer);
  }
  return [...all].sort((a, b) => a - b);
}

// Runs a step several times; returns what its buffers hold after each run, by index.
async function run(gpu, step) {
  const buffers = await gpu.buffers(step);
  gpu.prepare(step);
  const dispatches = [];
  for (const dispatch of step.dispatches) dispatches.push(await gpu.dispatch(dispatch, buffers));
  const read = written(step).map((buffer) => ({ buffer, size: buffers[buffer].size }));
  const size = read.reduce((sum, one) => sum + one.size, 0);
  const runs = size * RUNS <= MOST_BYTES ? RUNS : size * 2 <= MOST_BYTES ? 2 : 1;
  const encoder = gpu.device.createCommandEncoder();
  const host = gpu.device.createBuffer({ size: size * runs, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const copies = [];
  if (step.restore) {
    for (const { buffer, size } of read.filter(({ buffer }) => step.buffers[buffer].is_tensor)) {
      const copy = gpu.buffer(size);
      encoder.copyBufferToBuffer(buffers[buffer], 0, copy, 0, size);
      copies.push([copy, buffers[buffer], size]);
    }
  }
  let at = 0;
  const places = [];
  for (let i = 0; i < runs; i++) {
    for (const [copy, buffer, size] of copies) encoder.copyBufferToBuffer(copy, 0, buffer, 0, size);
    const pass = encoder.beginComputePass();
    for (const encode of dispatches) encode(pass);
    pass.end();
    places.push(
      read.map(({ buffer, size }) => {
        encoder.copyBufferToBuffer(buffers[buffer], 0, host, at, size);
        at += size;
        return { buffer, size, at: at - size };
      }),
    );
  }
  gpu.device.queue.submit([encoder.finish()]);
  await gpu.settle(host.mapAsync(GPUMapMode.READ));
  const bytes = new Uint8Array(host.getMappedRange());
  const results = places.map((of) => {
    const result = {};
    for (const { buffer, size, at } of of) result[buffer] = bytes.slice(at, at + size);
    return result;
  });
  host.destroy();
  for (const [copy] of copies) copy.destroy();
  for (const buffer of buffers) buffer.destroy();
  return results;
}

function equal(one, other) {
  return Object.keys(one).every((buffer) => {
    const [a, b] = [one, other].map((result) => new Uint32Array(result[buffer].buffer));
    return a.every((word, index) => word === b[index]);
  });
}

// The first byte between tensors that was written to.
function overrun(step, bytes) {
  for (const [buffer, first, length] of step.guards) {
    if (!bytes[buffer]) continue;
    const at = bytes[buffer].subarray(first, first + length).findIndex((byte) => byte !== GUARD);
    if (at >= 0) return `byte ${first + at} of the buffer of ${step.buffers[buffer].holds} changed, which no tensor has`;
  }
  return null;
}

// A hash of report and outputs.
function bits(loss, step, bytes) {
  const report = new Uint32Array(bytes[step.report.buffer].slice().buffer);
  let h = hashOfWords(step.report.words.map((place) => report[place]));
  loss.outputs.forEach(({ elements, dtype }, index) => {
    const { buffer, offset } = step.outputs[index];
    const length = elements * (dtype === 'f32' ? 4 : 2);
    const padded = new Uint8Array(Math.ceil(length / 4) * 4);
    padded.set(bytes[buffer].subarray(offset, offset + length));
    h = hashOfWords(new Uint32Array(padded.buffer), h);
  });
  return h;
}

// Checks a step. `outcome`: passed, failed, or unsupported where memory runs out; `message`: the exact words.
export async function check(gpu, step) {
  const loss = gpu.contents.losses[step.loss];
  const result = { set: step.set, name: step.name, loss: step.loss, outcome: 'failed', message: '', runs: 0 };
  try {
    const runs = await gpu.checked(() => run(gpu, step));
    const { phrases, ...differences } = compare(loss, step, runs[0]);
    const same = runs.every((one) => equal(one, runs[0]));
    if (!same) phrases.push(`${runs.length} runs were not equal bit for bit`);
    const changed = overrun(step, runs[0]);
    if (changed) phrases.push(changed);
    const outcome = phrases.length === 0 ? 'passed' : 'failed';
    Object.assign(result, { outcome, message: phrases.join('\n'), runs: runs.length, same, differences });
    result.bits = bits(loss, step, runs[0]);
  } catch (error) {
    if (error.kind === 'lost') throw error;
    result.outcome = error.kind === 'out-of-memory' ? 'unsupported' : 'failed';
    result.message = `${error.kind ?? error.name}: ${error.message}`;
  }
  return result;
}
