// What a reader sees. All text goes in as text: results may come from anyone's link.
import { bandwidth, verdict } from '#results';

export const find = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function say(id, text) {
  find(id).textContent = text || '\u00a0';
}

function table(caption, header, rows) {
  if (rows.length === 0) return '';
  const numeric = header.map((_, column) => rows.every((row) => /^[\d.,–e+-]*$/.test(String(row[column]))));
  const line = (tag, cells) => {
    return element('tr', {}, ...cells.map((cell, i) => element(tag, numeric[i] ? { class: 'n' } : {}, String(cell))));
  };
  const all = rows.map((row) => line('td', row));
  return element('div', { class: 'wide' }, element('table', {}, element('caption', {}, caption), line('th', header), ...all));
}

const milliseconds = (ns) => (ns / 1e6).toPrecision(3);

// The rows that are there before anything is measured, so that nothing moves when it is.
const ROWS = [
  ['forward', 'segloss', 'forward'],
  ['backward', 'segloss', 'backward'],
  ['read floor', 'floor', 'forward'],
  ['copy floor', 'floor', 'backward'],
];

// Five rows: both stages, their floors, and both over both.
export function showBench(bench) {
  const classes = ['', 'n', 'n spread', 'n', ''];
  const titles = ['', 'ms', '10–90 %', 'GB/s', ''];
  const header = element('tr', {}, ...titles.map((text, i) => element('th', { class: classes[i] }, text)));
  const body = [];
  const last = bench?.ratios?.findLast(({ name }) => name === 'time over the floor');
  const figures = ROWS.map(([, name, stage]) => {
    return bench?.figures?.find((f) => f.name === name && f.stage === stage && f.shape === last?.shape);
  });
  const most = Math.max(...figures.map((figure) => (figure ? bandwidth(figure) : 0)));
  ROWS.forEach(([title], index) => {
    const figure = figures[index];
    const numbers = figure
      ? [
          milliseconds(figure.median_ns),
          `${milliseconds(figure.low_ns)}–${milliseconds(figure.high_ns)}`,
          bandwidth(figure).toFixed(1),
        ]
      : ['–', '–', '–'];
    const picture = element('div', {});
    picture.style.width = `${figure ? Math.max(0, Math.min(100, (100 * bandwidth(figure)) / most)) : 0}%`;
    const cells = numbers.map((text, i) => element('td', { class: classes[i + 1] }, text));
    body.push(element('tr', {}, element('td', {}, title), ...cells, element('td', { class: 'picture' }, picture)));
  });
  const over = last ? `${last.median.toFixed(2)} × (${last.low.toFixed(2)}–${last.high.toFixed(2)})` : '–';
  body.push(element('tr', {}, element('td', {}, 'over the floor'), element('td', { class: 'over', colspan: 4 }, over)));
  find('bench').replaceChildren(element('caption', {}, last?.shape ?? 'of the largest shape'), header, ...body);
}

export function showVerdict(validation, bench) {
  if (!validation) {
    say('verdict', bench ? 'Not checked, only timed.' : '');
    return;
  }
  const { passed, failed, unsupported, worst } = verdict(validation);
  const agree = `${passed} of ${passed + failed} agree with f64`;
  const isRight = failed === 0 && passed > 0;
  say('verdict', passed + failed === 0 ? 'Nothing was checked' : `${isRight ? 'Right' : 'Wrong'}: ${agree}`);
  const apart = unsupported ? ` ${unsupported} more need what this device or browser lacks.` : '';
  say('worst', `The worst gradient is off by ${worst.toExponential(1)} of the largest of its head.${apart}`);
  find('verdict').className = `verdict ${isRight ? 'good' : 'bad'}`;
  const failures = [...validation.shaders.tools.flatMap((tool) => tool.failures), ...validation.adapters[0].failures];
  find('failures').replaceChildren(
    ...failures.flatMap(({ what, message }) => [
      element('p', { class: 'bad' }, String(what)),
      element('pre', {}, String(message)),
    ]),
  );
}

const small = (value) => (value === 0 ? '0' : Number(value).toExponential(1));

// All tables. `unsupported`: names and reasons; `bits`: whose bits these are; `walls`: times by the host's clock.
export function showAll({ validation, bench, unsupported = [], bits = [], walls = [] }) {
  const all = [];
  if (validation) {
    const [adapter] = validation.adapters;
    const counts = (what, { passed, failed, unsupported } = {}) => [what, passed ?? 0, failed ?? 0, unsupported ?? 0];
    all.push(
      table('Steps', ['', 'passed', 'failed', 'not run'], [
        counts('cases of published implementations', adapter.cases),
        counts('steps that cover every pair of choices', adapter.covering),
        counts('every kernel, pooled tensors, windows', adapter.steps),
        counts(`the same bits in up to ${adapter.runs_each} runs`, adapter.determinism),
      ]),
      table(
        'Worst errors',
        ['term', 'type', 'steps', 'loss', 'gradient'],
        adapter.errors.map(({ kind, dtype, trials, loss, gradient }) => [kind, dtype, trials, small(loss), small(gradient)]),
      ),
      table('Gradient errors', ['log2 below', 'steps'], adapter.histogram.map(({ below, trials }) => [below, trials])),
      table(
        'Shapes at the limits',
        ['', 'shape', 'loss', 'gradient'],
        adapter.sizes.map(({ what, shape, loss, gradient }) => [what, shape, small(loss), small(gradient)]),
      ),
      table('What the device states', ['', ''], adapter.states),
    );
  }
  if (unsupported.length > 0) all.push(table('Not run', ['', 'why'], unsupported));
  if (bits.length > 0) all.push(table('Bits', ['step', 'here', 'of'], bits));
  if (bench) {
    const lines = (figures) => figures.map((figure) => {
      const { shape, name, stage, median_ns, low_ns, high_ns } = figure;
      const spread = `${milliseconds(low_ns)}–${milliseconds(high_ns)}`;
      return [shape, name, stage, milliseconds(median_ns), spread, bandwidth(figure).toFixed(2)];
    });
    const header = ['shape', 'what', 'stage', 'ms', '10–90 %', 'GB/s'];
    all.push(
      table(`Times, ${bench.clock}`, header, lines(bench.figures)),
      table("Times, by the host's clock", header, bench.clock === 'timestamps' ? lines(walls) : []),
      table(
        'Ratios, forward + backward',
        ['shape', '', 'median', '95 %'],
        bench.ratios.map(({ shape, name, median, low, high }) => {
          return [shape, name, median.toFixed(3), `${low.toFixed(3)} to ${high.toFixed(3)}`];
        }),
      ),
    );
  }
  find('all').replaceChildren(...all);
}

export function save(name, contents) {
  const url = URL.createObjectURL(new Blob([`${JSON.stringify(contents, null, 2)}\n`], { type: 'application/json' }));
  const link = element('a', { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
