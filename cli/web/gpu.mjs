// A device: texts, pipelines, buffers, and waiting for it.
import { bytesOfBase64 } from '#bytes';

// Fills the bytes between tensors, and what is written before it is.
export const GUARD = 0xa5;
// Larger buffers are not prepared on the host.
const SMALL = 1 << 20;
const TYPES = { u: 'uniform', r: 'read-only-storage', w: 'storage' };

// What went wrong, in the browser's own words. `kind`: validation, out-of-memory, internal, compiler, lost.
export class GpuError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Gpu {
  // `contents`: the document. `limits`: beyond WebGPU's defaults.
  static async open(contents, adapter, limits = {}) {
    const wanted = ['subgroups', 'timestamp-query'];
    const requiredFeatures = wanted.filter((feature) => adapter.features.has(feature));
    const device = await adapter.requestDevice({ requiredFeatures, requiredLimits: limits });
    return new Gpu(contents, device);
  }

  constructor(contents, device) {
    Object.assign(this, { contents, device });
    this.pipelines = new Map();
    this.lost = null;
    this.uncaptured = [];
    this.gone = device.lost.then(({ reason, message }) => {
      this.lost = `the device was lost (${reason}): ${message}`;
      throw new GpuError('lost', this.lost);
    });
    this.gone.catch(() => {});
    device.addEventListener?.('uncapturederror', ({ error }) => this.uncaptured.push(error.message));
  }

  // Waits. Firefox looks after its promises every 100 ms, or whenever something is submitted.
  async settle(promise) {
    let open = true;
    const done = promise.finally(() => {
      open = false;
    });
    const nudge = async () => {
      while (open && !this.lost) {
        await sleep(1);
        this.device.queue.submit([]);
      }
    };
    nudge();
    return Promise.race([done, this.gone]);
  }

  // Runs calls in error scopes of their own. An error is thrown, with the browser's words.
  async checked(calls) {
    const scopes = ['validation', 'out-of-memory', 'internal'];
    for (const scope of scopes) this.device.pushErrorScope(scope);
    let thrown = null;
    let value;
    try {
      value = await calls();
    } catch (error) {
      thrown = error;
    }
    const found = [];
    for (const scope of [...scopes].reverse()) {
      const error = await this.device.popErrorScope().catch(() => null);
      if (error) found.push(new GpuError(scope, error.message));
    }
    // calls on a lost device may fail before the browser tells of the loss
    if (thrown ?? found[0]) await this.settle(sleep(500));
    const memory = found.find(({ kind }) => kind === 'out-of-memory');
    if (memory ?? thrown ?? found[0]) throw memory ?? thrown ?? found[0];
    return value;
  }

  text(shader) {
    const { lines, subgroups } = this.contents.shaders[shader];
    let at = 0;
    const text = lines.map((step) => this.contents.lines[(at += step)]).join('\n');
    return (subgroups ? 'enable subgroups;\n' : '') + text;
  }

  // The pipeline of a shader and the accesses of its bindings, compiled once.
  pipeline(shader, accesses) {
    const { entry_point } = this.contents.shaders[shader];
    return this.compiled(`${shader} ${accesses}`, () => this.text(shader), entry_point, accesses);
  }

  compiled(key, text, entryPoint, accesses) {
    if (!this.pipelines.has(key)) this.pipelines.set(key, this.compile(text(), entryPoint, accesses));
    return this.pipelines.get(key);
  }

  async compile(code, entryPoint, accesses) {
    const entries = [...accesses].map((access, binding) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: TYPES[access] },
    }));
    // in a scope of its own: this may run ahead of the step that needs it
    this.device.pushErrorScope('validation');
    const layout = this.device.createBindGroupLayout({ entries });
    const module = this.device.createShaderModule({ code });
    const scope = this.device.popErrorScope();
    const { messages } = await this.settle(module.getCompilationInfo());
    const errors = messages.filter(({ type }) => type === 'error');
    if (errors.length > 0) {
      const words = errors.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos}: ${message}`);
      throw new GpuError('compiler', words.join('\n'));
    }
    const error = await scope;
    if (error) throw new GpuError('compiler', error.message);
    const pipeline = await this.settle(
      this.device.createComputePipelineAsync({
        layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint },
      }),
    );
    return { pipeline, layout };
  }

  // Begins to compile what a step needs. What goes wrong is thrown when the step runs.
  prepare(step) {
    for (const dispatch of step.dispatches) this.ofDispatch(dispatch).catch(() => {});
  }

  ofDispatch({ shader, bindings }) {
    return this.pipeline(shader, bindings.map(([access]) => access).join(''));
  }

  // A dispatch on these buffers, to encode any number of times.
  async dispatch(about, buffers) {
    const { bindings, grid } = about;
    const { pipeline, layout } = await this.ofDispatch(about);
    const entries = bindings.map(([, buffer, offset, size], binding) => ({
      binding,
      resource: { buffer: buffers[buffer], offset, size },
    }));
    const group = this.device.createBindGroup({ layout, entries });
    return (pass) => {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(grid[0], grid[1]);
    };
  }

  buffer(size, bytes = null) {
    const { STORAGE, UNIFORM, COPY_SRC, COPY_DST } = GPUBufferUsage;
    const whole = Math.max(4, Math.ceil(size / 4) * 4);
    const usage = STORAGE | UNIFORM | COPY_SRC | COPY_DST;
    const buffer = this.device.createBuffer({ size: whole, usage, mappedAtCreation: bytes !== null });
    if (bytes) {
      new Uint8Array(buffer.getMappedRange()).set(bytes);
      buffer.unmap();
    }
    return buffer;
  }

  // A step's buffers, with what is in them before it runs. `known`: buffers to take instead, by index.
  async buffers(step, known = {}) {
    const loss = this.contents.losses[step.loss];
    const fills = [];
    const all = step.buffers.map((about, index) => {
      if (known[index]) return known[index];
      const { size, data, parts = [], is_tensor } = about;
      if (!is_tensor) return this.buffer(size, data ? bytesOfBase64(data) : null);
      const filled = parts.filter(([tensor]) => loss.tensors[tensor].fill);
      const guards = step.guards.filter(([of]) => of === index);
      if (size > SMALL) {
        if (parts.length > filled.length) throw new Error(`${about.holds}: too large to be sent`);
        const buffer = this.buffer(size);
        for (const [, first, length] of guards) this.guard(buffer, first, length);
        for (const part of filled) fills.push([buffer, ...part]);
        return buffer;
      }
      const bytes = new Uint8Array(Math.ceil(size / 4) * 4).fill(GUARD);
      for (const [of, first, length] of step.zeros ?? []) if (of === index) bytes.fill(0, first, first + length);
      for (const [tensor, first] of parts) {
        if (loss.tensors[tensor].data) bytes.set(bytesOfBase64(loss.tensors[tensor].data), first);
      }
      const buffer = this.buffer(size, bytes);
      for (const part of filled) fills.push([buffer, ...part]);
      return buffer;
    });
    for (const [buffer, tensor, offset] of fills) await this.fill(buffer, loss.tensors[tensor], offset);
    return all;
  }

  guard(buffer, first, length) {
    const [begin, end] = [first - (first % 4), Math.ceil((first + length) / 4) * 4];
    this.device.queue.writeBuffer(buffer, begin, new Uint8Array(end - begin).fill(GUARD));
  }

  // Fills a tensor by fill.wgsl, in windows of what one binding may have.
  async fill(buffer, { bytes, fill }, offset) {
    const { pipeline, layout } = await this.compiled('fill', () => this.contents.fill, 'main', 'uw');
    const words = Math.ceil(bytes / 4);
    const most = Math.floor(this.device.limits.maxStorageBufferBindingSize / 1024) * 256;
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    for (let first = 0; first < words; first += most) {
      const here = Math.min(most, words - first);
      const settings = new Uint8Array(Uint32Array.from([first, here, ...fill]).buffer);
      const entries = [
        { binding: 0, resource: { buffer: this.buffer(settings.length, settings) } },
        { binding: 1, resource: { buffer, offset: offset + first * 4, size: here * 4 } },
      ];
      pass.setBindGroup(0, this.device.createBindGroup({ layout, entries }));
      const groups = Math.ceil(here / 64);
      const side = Math.min(groups, this.device.limits.maxComputeWorkgroupsPerDimension);
      pass.dispatchWorkgroups(side, Math.ceil(groups / side));
    }
    pass.end();
    this.device.queue.submit([encoder.finish()]);
  }

  // Whether f16 is converted exactly by WGSL's built-in functions; false where the browser cannot tell.
  async exactF16() {
    if (typeof Float16Array === 'undefined') return false;
    this.exact ??= exactF16(this);
    return this.exact;
  }
}

const F16 = `
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // every half, and next to it the number in the middle of it and the next one
    let half = id.x;
    words[2u * half] = bitcast<u32>(unpack2x16float(half).x);
    words[2u * half + 1u] = pack2x16float(vec2<f32>(bitcast<f32>(words[2u * half + 1u]), 0.0)) & 0xffffu;
}`;

async function exactF16(gpu) {
  const halves = Float32Array.from(new Float16Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));
  const middles = halves.map((half, i) => (Number.isFinite(half) ? (half + halves[i + 1]) / 2 : 1));
  const given = new Uint32Array(131072);
  middles.forEach((middle, i) => {
    given[2 * i + 1] = new Uint32Array(Float32Array.of(middle).buffer)[0];
  });
  const found = await gpu.checked(async () => {
    const { pipeline, layout } = await gpu.compiled('f16', () => F16, 'main', 'w');
    const buffer = gpu.buffer(given.byteLength, new Uint8Array(given.buffer));
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, gpu.device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] }));
    pass.dispatchWorkgroups(1024);
    pass.end();
    const host = gpu.device.createBuffer({
      size: given.byteLength,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    encoder.copyBufferToBuffer(buffer, 0, host, 0, given.byteLength);
    gpu.device.queue.submit([encoder.finish()]);
    await gpu.settle(host.mapAsync(GPUMapMode.READ));
    return new Uint32Array(host.getMappedRange().slice(0));
  });
  const decoded = new Float32Array(found.buffer.slice(0));
  const packed = new Uint16Array(Float16Array.from(middles).buffer);
  return halves.every((half, i) => {
    if (!Number.isFinite(half) || !Number.isFinite(middles[i])) return true;
    return Object.is(decoded[2 * i], half) && found[2 * i + 1] === packed[i];
  });
}
