// Times forward, backward and the floors: as slopes between k and 2k repeats, so that what a submission costs by itself cancels.
import { check } from '#check';
import { GpuError } from '#gpu';

const ROUNDS = 9;
// Milliseconds between the two points of a slope: clocks of browsers count by 0.1 to 1 ms.
const LEAST_SLOPE = 60;
// A driver may reset what takes seconds in one submission.
const MOST_SUBMISSION = 200;
// Bytes of all sets of tensors of a measurement, as far as agreed to: a cache that holds them all flatters.
const ALL_SETS = 256e6;
const MOST_SETS = 16;
const TIMINGS_OF_A_FLOOR = 3;

// Runs a contender's stage on one set of tensors after another.
class Runner {
  constructor(gpu, { name, stage, bytes, sets }) {
    Object.assign(this, { gpu, name, stage, bytes, sets, k: 1, times: [] });
  }

  // Milliseconds of `k` repeats in one submission: by the host's clock, and by the GPU's where it has one.
  async submit(k, queries) {
    const { device } = this.gpu;
    const encoder = device.createCommandEncoder();
    const timestampWrites = queries
      ? { querySet: queries.set, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 }
      : undefined;
    const pass = encoder.beginComputePass({ timestampWrites });
    for (let i = 0; i < k; i++) for (const encode of this.sets[i % this.sets.length]) encode(pass);
    pass.end();
    if (queries) {
      encoder.resolveQuerySet(queries.set, 0, 2, queries.resolved, 0);
      encoder.copyBufferToBuffer(queries.resolved, 0, queries.host, 0, 16);
    }
    const commands = encoder.finish();
    const begun = performance.now();
    device.queue.submit([commands]);
    if (!queries) {
      await this.gpu.settle(device.queue.onSubmittedWorkDone());
      return { wall: performance.now() - begun };
    }
    await this.gpu.settle(queries.host.mapAsync(GPUMapMode.READ));
    const wall = performance.now() - begun;
    const [from, to] = new BigUint64Array(queries.host.getMappedRange().slice(0));
    queries.host.unmap();
    return { wall, gpu: Number(to - from) / 1e6 };
  }

  // How many repeats make a slope that the clock can tell: grown from 1, for the sake of watchdogs.
  async calibrate(queries) {
    await this.submit(1, queries);
    for (;;) {
      const { wall } = await this.submit(this.k, queries);
      if (wall >= LEAST_SLOPE * 1.2) return;
      const grown = Math.ceil(this.k * Math.min(8, Math.max(2, (LEAST_SLOPE * 1.3) / Math.max(wall, 1))));
      if (grown > 1 << 15) return;
      this.k = grown;
      if (wall > MOST_SUBMISSION / 4 && this.k > 1) return;
    }
  }

  // Nanoseconds of one repeat.
  async slope(queries) {
    const [one, two] = [await this.submit(this.k, queries), await this.submit(2 * this.k, queries)];
    const of = (clock) => ((two[clock] - one[clock]) / this.k) * 1e6;
    return { wall: of('wall'), gpu: queries ? of('gpu') : NaN };
  }
}

function timestamps({ device }) {
  if (!device.features.has('timestamp-query')) return null;
  const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  return {
    set: device.createQuerySet({ type: 'timestamp', count: 2 }),
    resolved: device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC }),
    host: device.createBuffer({ size: 16, usage: COPY_DST | MAP_READ }),
  };
}

const bytesOf = (step) => step.buffers.filter((b) => b.is_tensor).reduce((sum, { size }) => sum + size, 0);

// The stages of a contender, each on several sets of tensors; what it needs beside them is shared.
async function stages(gpu, bench, contender, sets) {
  const step = gpu.contents.steps[contender.step];
  const all = { forward: [], backward: [] };
  for (const tensors of sets) {
    const buffers = await gpu.buffers(step, tensors);
    for (const stage of ['forward', 'backward']) {
      const encoded = [];
      for (const dispatch of step.dispatches) {
        if (dispatch.stage === stage) encoded.push(await gpu.dispatch(dispatch, buffers));
      }
      all[stage].push(encoded);
    }
  }
  return ['forward', 'backward'].map((stage, index) => {
    return new Runner(gpu, { name: contender.name, stage, bytes: bench.bytes[index], sets: all[stage] });
  });
}

// A floor on the same tensors: it reads logits and labels, or copies logits to the gradient.
async function floor(gpu, about, step, sets) {
  const find = (name) => step.buffers.findIndex(({ holds }) => holds.startsWith(name));
  const [logits, labels, gradient] = ['logits', 'target', 'gradient'].map(find);
  const { device } = gpu;
  const longest = device.limits.maxComputeWorkgroupsPerDimension;
  const { pipeline, layout } = await gpu.pipeline(about.shader, 'rw');
  const least = Math.max(about.tile, 256);
  const most = Math.floor(device.limits.maxStorageBufferBindingSize / least) * least;
  const encoded = sets.map((buffers) => {
    const calls = [];
    for (const from of about.copies ? [logits] : [logits, labels]) {
      // without what guards the end, in whole loads
      const size = (step.buffers[from].size - 64) - ((step.buffers[from].size - 64) % 16);
      for (let first = 0; first < size; first += most) {
        const here = Math.min(most, size - first);
        const entries = [
          { binding: 0, resource: { buffer: buffers[from], offset: first, size: here } },
          { binding: 1, resource: { buffer: buffers[gradient], offset: first, size: here } },
        ];
        const group = device.createBindGroup({ layout, entries });
        const workgroups = Math.ceil(here / about.tile);
        const y = Math.max(1, Math.ceil(workgroups / longest));
        calls.push((pass) => {
          pass.setPipeline(pipeline);
          pass.setBindGroup(0, group);
          pass.dispatchWorkgroups(Math.ceil(workgroups / y), y);
        });
      }
    }
    return calls;
  });
  const words = (buffer) => step.buffers[buffer].size - 64;
  const bytes = about.copies ? 2 * words(logits) : words(logits) + words(labels);
  const stage = about.copies ? 'backward' : 'forward';
  return new Runner(gpu, { name: 'floor', stage, bytes, sets: encoded });
}

// The fastest of the floors of a kind.
async function fastestFloor(gpu, copies, step, sets, queries) {
  let best = null;
  for (const about of gpu.contents.floors.filter((one) => one.copies === copies)) {
    const runner = await floor(gpu, about, step, sets);
    await runner.calibrate(queries);
    let least = Infinity;
    for (let i = 0; i < TIMINGS_OF_A_FLOOR; i++) {
      const { wall, gpu: byGpu } = await runner.slope(queries);
      least = Math.min(least, Number.isNaN(byGpu) ? wall : byGpu);
    }
    if (!best || least < best.least) best = { runner, least };
  }
  return best;
}

const sorted = (values) => [...values].sort((a, b) => a - b);

export function quantile(values, part) {
  const all = sorted(values);
  const at = part * (all.length - 1);
  const [below, above] = [all[Math.floor(at)], all[Math.ceil(at)]];
  return below + (above - below) * (at - Math.floor(at));
}

// The ratio of sums over rounds, with the 95 % interval of its median by bootstrap.
function ratio(name, shape, over, under) {
  const ratios = over.map((time, round) => time / under[round]);
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const medians = Array.from({ length: 2000 }, () => {
    return quantile(ratios.map(() => ratios[Math.floor(random() * ratios.length)]), 0.5);
  });
  const [low, high] = [quantile(medians, 0.025), quantile(medians, 0.975)];
  return { name, shape, median: quantile(ratios, 0.5), low, high, pairs: ratios.length };
}

function figure({ name, stage, bytes, times }, shape) {
  const [median, low, high] = [0.5, 0.1, 0.9].map((part) => Math.round(quantile(times, part)));
  return { name, shape, stage, median_ns: median, low_ns: low, high_ns: high, runs: times.length, bytes };
}

const both = (runners, name) => {
  const stages = runners.filter((runner) => runner.name === name);
  return stages[0].times.map((_, round) => stages.reduce((sum, { times }) => sum + times[round], 0));
};

// Bytes of device memory that a measurement takes at least.
export function leastBytes(contents, bench) {
  return bytesOf(contents.steps[bench.contenders[0].step]) * 2;
}

// Times a bench. Its steps are checked first: what is wrong is not timed. `between`: awaited between rounds, where the caller may
// pause or end it; its answer `false` makes a round be timed again.
export async function measure(gpu, bench, mostBytes, between) {
  const { contents } = gpu;
  for (const { step } of bench.contenders) {
    const { outcome, message } = await check(gpu, contents.steps[step]);
    if (outcome !== 'passed') throw new GpuError('wrong', `${bench.shape}: nothing is timed: ${message}`);
    await between();
  }
  const step = contents.steps[bench.contenders[0].step];
  const count = Math.min(MOST_SETS, Math.max(2, Math.floor(Math.min(ALL_SETS, mostBytes) / bytesOf(step))));
  const queries = timestamps(gpu);
  const made = [];
  try {
    return await gpu.checked(async () => {
      const sets = [];
      for (let i = 0; i < count; i++) {
        const all = await gpu.buffers(step);
        const tensors = {};
        step.buffers.forEach(({ is_tensor }, index) => {
          if (is_tensor) tensors[index] = all[index];
        });
        made.push(...all);
        sets.push(tensors);
      }
      const runners = [];
      for (const contender of bench.contenders) runners.push(...(await stages(gpu, bench, contender, sets)));
      if (bench.floors) {
        for (const copies of [false, true]) {
          const best = await fastestFloor(gpu, copies, step, sets, queries);
          await between();
          runners.push(best.runner);
        }
      }
      for (const runner of runners) await runner.calibrate(queries);
      const walls = new Map(runners.map((runner) => [runner, []]));
      for (let round = 0; round < ROUNDS; ) {
        const times = new Map();
        // every other round runs in reverse, so that none always follows the same one
        for (const runner of round % 2 ? [...runners].reverse() : runners) {
          times.set(runner, await runner.slope(queries));
        }
        if ((await between((round + 1) / ROUNDS)) === false) continue;
        for (const [runner, { wall, gpu: byGpu }] of times) {
          runner.times.push(queries ? byGpu : wall);
          walls.get(runner).push(wall);
        }
        round++;
      }
      const names = bench.contenders.map(({ name }) => name);
      const ratios = [];
      if (bench.floors) {
        ratios.push(ratio('time over the floor', bench.shape, both(runners, names[0]), both(runners, 'floor')));
        ratios.push(ratio('label smoothing over none', bench.shape, both(runners, names[0]), both(runners, names[1])));
      } else {
        ratios.push(ratio(`${names[1]} over ${names[0]}`, bench.shape, both(runners, names[1]), both(runners, names[0])));
      }
      return {
        figures: runners.map((runner) => figure(runner, bench.shape)),
        walls: runners.map((runner) => figure({ ...runner, times: walls.get(runner) }, bench.shape)),
        ratios,
        clock: queries ? 'timestamps' : 'wall slope',
        sets: count,
        bytes: count * bytesOf(step),
      };
    });
  } finally {
    for (const buffer of made) buffer.destroy();
    queries?.set.destroy();
  }
}
