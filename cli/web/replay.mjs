// Runs dispatches that were recorded as data, on a device of Dawn.
// stdin: {backend, steps: [{name, buffers: [base64], dispatches: [{source, entry_point, bindings: [{access, buffer, offset,
// size}], grid}], outputs: [{buffer, offset, size}]}]}; stdout: {adapter, steps: [{name, outputs: [base64], error}]}.
import { readFileSync, writeFileSync } from 'node:fs';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
const { backend, steps } = JSON.parse(readFileSync(0, 'utf8'));
const gpu = create([`backend=${backend}`]);
const adapter = await gpu.requestAdapter();
if (!adapter) throw new Error(`Dawn has no adapter with the back end ${backend}`);
const device = await adapter.requestDevice();

const bindingType = { uniform: 'uniform', read: 'read-only-storage', read_write: 'storage' };

function upload(base64) {
  const bytes = Buffer.from(base64, 'base64');
  const { STORAGE, UNIFORM, COPY_SRC } = GPUBufferUsage;
  const size = Math.max(4, bytes.length);
  const buffer = device.createBuffer({ size, usage: STORAGE | UNIFORM | COPY_SRC, mappedAtCreation: true });
  new Uint8Array(buffer.getMappedRange()).set(bytes);
  buffer.unmap();
  return buffer;
}

// whole words are copied, and the bytes of the range returned
async function download(buffer, offset, size) {
  const first = offset - (offset % 4);
  const words = Math.ceil((offset + size - first) / 4) * 4;
  const host = device.createBuffer({ size: words, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, first, host, 0, words);
  device.queue.submit([encoder.finish()]);
  await host.mapAsync(GPUMapMode.READ);
  return Buffer.from(host.getMappedRange(), offset - first, size).toString('base64');
}

// a pipeline for each text and layout
const pipelines = new Map();

function pipelineOf({ source, entry_point, bindings }) {
  const key = JSON.stringify([entry_point, bindings.map(({ access }) => access), source]);
  if (!pipelines.has(key)) {
    const entries = bindings.map(({ access }, binding) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: bindingType[access] },
    }));
    const layout = device.createBindGroupLayout({ entries });
    const pipeline = device.createComputePipeline({
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: device.createShaderModule({ code: source }), entryPoint: entry_point },
    });
    pipelines.set(key, { layout, pipeline });
  }
  return pipelines.get(key);
}

function encode(pass, dispatch, buffers) {
  const { layout, pipeline } = pipelineOf(dispatch);
  const entries = dispatch.bindings.map(({ buffer, offset, size }, binding) => ({
    binding,
    resource: { buffer: buffers[buffer], offset, size },
  }));
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
  pass.dispatchWorkgroups(dispatch.grid[0], dispatch.grid[1]);
}

const results = [];
for (const { name, buffers, dispatches, outputs } of steps) {
  device.pushErrorScope('validation');
  const uploaded = buffers.map(upload);
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const dispatch of dispatches) encode(pass, dispatch, uploaded);
  pass.end();
  device.queue.submit([encoder.finish()]);
  const read = [];
  for (const { buffer, offset, size } of outputs) read.push(await download(uploaded[buffer], offset, size));
  const error = (await device.popErrorScope())?.message ?? null;
  results.push({ name, outputs: read, error });
}
writeFileSync(1, JSON.stringify({ adapter: adapter.info.description || adapter.info.device, steps: results }));
// Dawn keeps the process alive
process.exit(0);
