// Validates WGSL with Tint, on no device.
// stdin: [{name, source}]; stdout: [{name, error}], error null where the text is valid.
import { readFileSync, writeFileSync } from 'node:fs';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ['subgroups'] });

const answers = [];
for (const { name, source } of JSON.parse(readFileSync(0, 'utf8'))) {
  device.pushErrorScope('validation');
  const info = await device.createShaderModule({ label: name, code: source }).getCompilationInfo();
  const scope = await device.popErrorScope();
  const errors = info.messages.filter(({ type }) => type === 'error');
  const lines = errors.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos}: ${message}`);
  const error = lines.length > 0 ? lines.join('\n') : scope?.message ?? null;
  answers.push({ name, error });
}
writeFileSync(1, JSON.stringify(answers));
// Dawn keeps the process alive
process.exit(0);
