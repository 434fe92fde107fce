/** Makes hugging-face.json: what PyTorch says of the folders exported from the cases. Needs python3 with PyTorch. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exportModel } from '../../../kernels/checkpoint/model-export.ts';
import { CASES, inFolder, logitsByPyTorch, sequencesOf, writeCase } from '../hugging-face-cases.ts';

const vectors: unknown[] = [];
for (const preset of CASES) {
  await inFolder(async (folder) => {
    await writeCase(join(folder, 'weights.bin'), preset);
    const exported = join(folder, 'exported');
    await exportModel({ source: join(folder, 'weights.bin'), preset, folder: exported });
    const sequences = sequencesOf(preset);
    const logits = logitsByPyTorch(exported, sequences);
    const sha256 = createHash('sha256')
      .update(await readFile(join(exported, 'model.safetensors')))
      .digest('hex');
    vectors.push({ preset: preset.name, sha256, sequences, logits });
  });
}
await writeFile(new URL('./hugging-face.json', import.meta.url), `${JSON.stringify(vectors, null, 2)}\n`);
