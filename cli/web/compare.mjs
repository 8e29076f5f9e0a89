// What a step wrote against what it should: the rules of the crate's own comparison.
import { bytesOfBase64, floats } from '#bytes';

// 0 where both are NaN or the same infinity, infinite where only one is.
function distance(given, expected) {
  if (given === expected || (Number.isNaN(given) && Number.isNaN(expected))) return 0;
  const off = Math.abs(given - expected);
  return Number.isNaN(off) ? Infinity : off;
}

// What a loss's difference is relative to.
function size(expected) {
  return Number.isFinite(expected) ? Math.max(1, Math.abs(expected)) : 1;
}

// The elements of an output that are compared: the same rule as expected.rs.
function isSampled(element, { columns, tile, edges, stride }) {
  if (element % stride === 0) return true;
  const column = element % columns;
  return edges && (column === columns - 1 || column % tile === 0 || column % tile === tile - 1);
}

// Compares a report, the words of its buffer, with the expected ones.
function compareReport(loss, places, words, found) {
  const numbers = new Float32Array(words.buffer, words.byteOffset, words.length);
  loss.report.forEach(({ name, kind, value }, index) => {
    const place = places[index];
    const expected = Number(value);
    const given = kind === 'count' ? words[place] : numbers[place];
    if (kind === 'count') {
      if (given !== expected) found.phrases.push(`${name}: expected ${expected}, got ${given}`);
      return;
    }
    const off = distance(given, expected) / (kind === 'loss' ? size(expected) : 1);
    const key = kind === 'loss' ? 'loss' : 'soft_dice';
    found[key] = Math.max(found[key], off);
    if (off > loss.tolerance[key]) {
      found.phrases.push(`${name}: expected ${expected}, got ${given}, off by ${off.toExponential(1)}`);
    }
  });
}

function compareOutput(loss, output, given, found) {
  const { head, tensor, elements, scale, rounding } = output;
  const expected = new Float32Array(bytesOfBase64(output.samples).buffer);
  const isGradient = tensor === 'gradient';
  const limit = isGradient ? loss.tolerance.gradient : loss.tolerance.loss;
  const key = isGradient ? 'gradient' : 'loss';
  let [at, worst, place, sample] = [0, 0, -1, 0];
  let [sum, sumAbs] = [0, 0];
  for (let element = 0; element < elements; element++) {
    const value = given[element];
    sum += value;
    sumAbs += Math.abs(value);
    if (!isSampled(element, output)) continue;
    const wanted = expected[at++];
    const allowed = isGradient ? Math.max(rounding[0] * Math.abs(wanted), rounding[1]) : 0;
    const off = Math.max(0, distance(value, wanted) - allowed) / (isGradient ? scale : size(wanted));
    if (off > worst) [worst, place, sample] = [off, element, wanted];
  }
  if (at !== expected.length) found.phrases.push(`${tensor}: expected ${expected.length} samples, got ${at}`);
  found[key] = Math.max(found[key], worst);
  const name = `${tensor} of head ${head}`;
  if (worst > limit) {
    const words = `expected ${sample}, got ${given[place]}, off by ${worst.toExponential(1)}`;
    found.phrases.push(`${name}, element ${place}: ${words}${isGradient ? ' of the largest' : ''}`);
  }
  // what every element together may be off
  const [wanted, wantedAbs] = [Number(output.sum), Number(output.sum_abs)];
  if (!Number.isFinite(wanted)) return;
  const each = isGradient ? limit * scale + rounding[1] : limit;
  const allowed = elements * each + (isGradient ? rounding[0] : limit) * wantedAbs;
  for (const [what, sums, expectedSum] of [['Σ', sum, wanted], ['Σ|·|', sumAbs, wantedAbs]]) {
    if (!(Math.abs(sums - expectedSum) <= allowed)) {
      found.phrases.push(`${what} of the ${name}: expected ${expectedSum} ± ${allowed.toExponential(1)}, got ${sums}`);
    }
  }
}

// `bytes`: what each buffer that was written holds, by index.
export function compare(loss, step, bytes) {
  const found = { loss: 0, gradient: 0, soft_dice: 0, phrases: [] };
  const report = bytes[step.report.buffer];
  compareReport(loss, step.report.words, new Uint32Array(report.slice().buffer), found);
  loss.outputs.forEach((output, index) => {
    const { buffer, offset } = step.outputs[index];
    compareOutput(loss, output, floats(bytes[buffer], offset, output.elements, output.dtype), found);
  });
  return found;
}
