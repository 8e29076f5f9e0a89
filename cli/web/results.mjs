// Results in the crate's own formats, segloss-validation/1 and segloss-bench/1, and as a line of the table of devices.
import { packed, unpacked } from '#bytes';
import { RUNS } from '#check';

const count = (results) => ({
  passed: results.filter(({ outcome }) => outcome === 'passed').length,
  failed: results.filter(({ outcome }) => outcome === 'failed').length,
  unsupported: results.filter(({ outcome }) => outcome === 'unsupported').length,
});

// The worst errors by term and type.
function errors(contents, results) {
  const rows = new Map();
  for (const { loss, differences } of results.filter((result) => result.differences)) {
    for (const { terms, dtype } of contents.losses[loss].heads) {
      for (const kind of terms) {
        const key = `${kind} ${dtype}`;
        const row = rows.get(key) ?? { kind, dtype, trials: 0, loss: 0, gradient: 0 };
        row.trials += 1;
        row.loss = Math.max(row.loss, differences.loss);
        row.gradient = Math.max(row.gradient, differences.gradient);
        rows.set(key, row);
      }
    }
  }
  return [...rows.keys()].sort().map((key) => finite(rows.get(key)));
}

// JSON has no infinity.
function finite(row) {
  const most = Number.MAX_VALUE;
  return { ...row, loss: Math.min(row.loss, most), gradient: Math.min(row.gradient, most) };
}

function histogram(results) {
  const bins = new Map();
  for (const { differences } of results.filter((result) => result.differences)) {
    const below = Math.floor(Math.log2(Math.min(1, Math.max(differences.gradient, 2 ** -33)))) + 1;
    bins.set(below, (bins.get(below) ?? 0) + 1);
  }
  return [...bins.entries()].sort(([a], [b]) => a - b).map(([below, trials]) => ({ below, trials }));
}

export function validation(contents, about, results, ended) {
  const of = (set) => results.filter((result) => result.set === set);
  const others = ['headline', 'pooled', 'windows'].flatMap(of);
  const replayed = results.filter(({ runs }) => runs > 1);
  const failed = results.filter(({ outcome }) => outcome === 'failed');
  const isCompiler = ({ message }) => message.startsWith('compiler:');
  const failure = ({ name, message }) => ({ what: name, message });
  const shaders = contents.shaders.length;
  const sizes = of('sizes').filter(({ outcome }) => outcome === 'passed');
  const adapter = {
    name: `${about.name} (WebGPU, ${about.browser})`,
    states: about.states,
    variant: [['kind', about.kind]],
    cases: count(of('cases')),
    covering: count(of('covering')),
    steps: count(others),
    // cases have tolerances of their own
    errors: errors(contents, results.filter(({ set }) => set !== 'cases')),
    histogram: histogram(results.filter(({ set }) => set !== 'cases')),
    sizes: sizes.map(({ name, loss, differences }) => {
      const shape = contents.losses[loss].heads[0].shape.join(' × ');
      return finite({ what: name, shape, loss: differences.loss, gradient: differences.gradient });
    }),
    runs_each: RUNS,
    determinism: {
      passed: replayed.filter(({ same }) => same).length,
      failed: replayed.filter(({ same }) => !same).length,
      unsupported: 0,
    },
    failures: failed.filter((result) => !isCompiler(result)).map(failure),
  };
  if (ended) adapter.failures.push({ what: 'what ended the validation', message: ended });
  return {
    schema: 'segloss-validation/1',
    version: contents.version,
    commit: contents.commit,
    date: today(),
    seed: 0,
    shaders: {
      permutations: shaders,
      covering: shaders,
      all: null,
      tools: [
        {
          name: "the browser's compiler",
          question: 'the WGSL of every step compiles',
          absent: null,
          checked: results.filter(({ outcome }) => outcome !== 'unsupported').length,
          failures: failed.filter(isCompiler).map(failure),
        },
      ],
      switches_in_loops: null,
    },
    adapters: [adapter],
    spread: [],
  };
}

export function bench(contents, about, measured) {
  return {
    schema: 'segloss-bench/1',
    machine: {
      adapter: about.name,
      backend: `WebGPU, ${about.browser}`,
      driver: about.driver,
      software: about.kind === 'software',
    },
    commit: contents.commit,
    date: today(),
    clock: measured[0]?.clock ?? 'none',
    figures: measured.flatMap(({ figures }) => figures),
    ratios: measured.flatMap(({ ratios }) => ratios),
  };
}

const today = () => new Date().toISOString().slice(0, 10);

const cell = (text) => String(text).replaceAll('|', '\\|').replaceAll(/\s+/g, ' ');

export const bandwidth = ({ bytes, median_ns }) => bytes / median_ns;

// Passed and failed over everything, and the verdict.
export function verdict(validation) {
  const [adapter] = validation.adapters;
  const sets = [adapter.cases, adapter.covering, adapter.steps ?? {}];
  const add = (key) => sets.reduce((sum, set) => sum + (set[key] ?? 0), 0);
  const failed = adapter.failures.length + validation.shaders.tools.reduce((sum, tool) => sum + tool.failures.length, 0);
  const worst = adapter.errors.reduce((most, { gradient }) => Math.max(most, gradient), 0);
  const passed = add('passed') + adapter.sizes.length;
  return { passed, failed, unsupported: add('unsupported'), worst };
}

// A line of docs/hardware/README.md: the same as hardware.rs writes, but for the files.
export function row(validation, bench) {
  const { passed, failed, worst } = verdict(validation);
  const largest = bench?.ratios.findLast(({ name }) => name === 'time over the floor');
  const of = (stage) => {
    return bench?.figures.find((f) => f.shape === largest?.shape && f.name === 'segloss' && f.stage === stage);
  };
  const speed = (stage) => (of(stage) ? bandwidth(of(stage)).toFixed(1) : '–');
  const says = failed === 0 ? `${passed} agree, worst ${worst.toExponential(1)}` : `${failed} of ${passed + failed} FAIL`;
  const { adapter, backend, driver, software } = bench?.machine ?? {};
  const [name] = validation.adapters;
  const cells = [
    (adapter ?? name.name) + (software ? ' (software)' : ''),
    backend ?? '–',
    driver ?? '–',
    validation.date ?? '',
    says,
    largest?.shape ?? '–',
    speed('forward'),
    speed('backward'),
    largest ? largest.median.toFixed(2) : '–',
    '–',
  ];
  return `| ${cells.map(cell).join(' | ')} |`;
}

export const HEADER = [
  '| adapter | runs in | driver | date | against f64 | shape | forward GB/s | backward GB/s | over the floor | files |',
  '|---|---|---|---|---|---|--:|--:|--:|---|',
].join('\n');

// Everything as the fragment of an address, which no server sees.
export async function fragment(all) {
  return `#r=${await packed(JSON.stringify(all))}`;
}

// What a fragment holds; null where it holds no results. It comes from anyone: to be shown as text, and as nothing else.
export async function ofFragment(fragment) {
  if (!fragment.startsWith('#r=')) return null;
  const all = JSON.parse(await unpacked(fragment.slice(3)));
  const known = all?.validation === null || all?.validation?.schema === 'segloss-validation/1';
  if (!known || (all.bench && all.bench.schema !== 'segloss-bench/1')) throw new Error('expected results of segloss');
  return all;
}
